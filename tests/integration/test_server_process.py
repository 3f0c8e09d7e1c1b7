"""A real nats-server of the testing kit starts, stops and ends as its documentation says."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from pynats_twisted.errors import ConfigurationError, ServerProcessError
from pynats_twisted.testing import ServerProcess
from pynats_twisted.testing.ports import PortReservation, reservations_can_be_shared
from pynats_twisted.testing.program import find_server_program
from tests.support.integration import IntegrationTestCase
from tests.support.processes import can_connect, is_alive
from tests.support.witness import Witness, WitnessError, first_info

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class LifeTests(IntegrationTestCase):
    """Starting and ending."""

    async def test_started_server_accepts_clients(self) -> None:
        """When start() has fired, a client can connect at the server's URL."""
        server = await self.start_server()
        info = first_info(server.host, server.port)
        self.assertEqual(info["port"], server.port)
        self.assertEqual(server.url, f"nats://127.0.0.1:{server.port}")

    async def test_start_is_quick(self) -> None:
        """A start takes a fraction of a second, so that each test can have a server of its own."""
        # The best of three: the machine may be busy.
        times = []
        for _ in range(3):
            begin = time.monotonic()
            await (await self.start_server()).stop()
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), 0.5)

    async def test_port_is_known_and_refuses_before_the_start(self) -> None:
        """A client may be started before its server: the port is known, and connecting to it is refused."""
        server = self.make_server()
        self.assertFalse(can_connect(server.port))
        self.assertFalse(server.is_running)
        self.assertIsNone(server.pid)
        self.assertIsNone(server.exit_code)
        await server.start()
        self.assertTrue(can_connect(server.port))

    async def test_servers_have_different_ports(self) -> None:
        """Servers that run at the same time do not get in each other's way."""
        servers = [await self.start_server() for _ in range(3)]
        self.assertEqual(len({server.port for server in servers}), 3)

    async def test_port_can_be_chosen(self) -> None:
        """A given port is used."""
        reservation = PortReservation()
        reservation.release()
        server = await self.start_server(port=reservation.port)
        self.assertEqual(first_info("127.0.0.1", reservation.port)["port"], server.port)

    async def test_port_in_use_is_an_error_that_names_it(self) -> None:
        """A port that somebody else listens on is refused when the server is made."""
        server = await self.start_server()
        error = self.assertRaises(ServerProcessError, ServerProcess, self.reactor, port=server.port)
        self.assertIn(str(server.port), str(error))

    async def test_stop_ends_the_process_in_an_orderly_way(self) -> None:
        """stop() fires with exit code 0 when the process is gone and its port refuses; a second one does nothing."""
        server = await self.start_server()
        pid = server.pid
        assert pid is not None
        self.assertEqual(await server.stop(), 0)
        self.assertFalse(is_alive(pid))
        self.assertFalse(can_connect(server.port))
        self.assertEqual(await server.stop(), 0)

    async def test_restart_keeps_the_port(self) -> None:
        """After a restart it is another process on the same port."""
        server = await self.start_server()
        before = (server.port, server.pid)
        self.assertIs(await server.restart(), server)
        self.assertEqual(server.port, before[0])
        self.assertNotEqual(server.pid, before[1])
        self.assertEqual(first_info("127.0.0.1", before[0])["port"], before[0])

    async def test_kill_ends_it_at_once(self) -> None:
        """kill() ends the process by signal 9; connections are cut, and it can be started again on the same port."""
        server = await self.start_server()
        port = server.port
        witness = self.witness(server)
        self.assertEqual(await server.kill(), -signal.SIGKILL)
        witness.wait_closed()
        self.assertFalse(can_connect(port))
        await server.start()
        self.assertEqual(first_info("127.0.0.1", port)["port"], port)

    async def test_restart_by_kill_stays_down_as_long_as_told(self) -> None:
        """restart(kill=True, down=...) kills, waits and starts."""
        server = await self.start_server()
        begin = time.monotonic()
        restarted = server.restart(kill=True, down=0.2)
        await self.until(lambda: not server.is_running)
        self.assertFalse(can_connect(server.port))
        await restarted
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)
        self.assertTrue(can_connect(server.port))

    async def test_twenty_kills_in_a_row(self) -> None:
        """Killing and restarting again and again finds the port each time, though clients try to connect to it all the while."""
        server = await self.start_server()
        for _ in range(20):
            restarted = server.restart(kill=True)
            await self.until(lambda: can_connect(server.port))
            await restarted

    async def test_second_start_is_an_error(self) -> None:
        """A server that runs cannot be started."""
        server = await self.start_server()
        await self.assertFailure(server.start(), ServerProcessError)
        self.assertTrue(server.is_running)

    async def test_close_removes_everything(self) -> None:
        """close() ends the process, removes the temporary directory and frees the port; there is no way back."""
        server = await self.start_server()
        directory, port = server.directory, server.port
        self.assertTrue(directory.is_dir())
        await server.close()
        self.assertFalse(directory.exists())
        PortReservation(port=port).release()
        await self.assertFailure(server.start(), ServerProcessError)

    async def test_given_directory_is_kept(self) -> None:
        """The files of a server in a directory of the caller are not removed."""
        directory = Path(self.mktemp())
        server = await self.start_server(directory=directory)
        await server.close()
        self.assertIn("Server is ready", (directory / "server.log").read_text())

    async def test_async_with_starts_and_closes(self) -> None:
        """``async with`` gives a started server and closes it."""
        async with ServerProcess(self.reactor) as server:
            self.assertTrue(can_connect(server.port))
        self.assertFalse(server.is_running)
        self.assertFalse(server.directory.exists())

    async def test_cancelled_start_leaves_no_process(self) -> None:
        """Cancelling the Deferred of start() ends the process that was being started."""
        slow = Path(self.mktemp()).absolute()
        slow.write_text(f'#!/bin/sh\nsleep 1\nexec {find_server_program()} "$@"\n')
        slow.chmod(0o755)
        server = self.make_server(program=slow)
        starting = server.start()
        pid = server.pid
        assert pid is not None
        starting.cancel()
        await self.assertFailure(starting, CancelledError)
        self.assertFalse(is_alive(pid))
        await server.start()

    async def test_forgotten_server_is_ended(self) -> None:
        """The process of a server object that nobody holds any more ends with the object."""
        server = await ServerProcess(self.reactor).start()
        pid, directory = server.pid, server.directory
        assert pid is not None
        del server
        await self.sleep(0)  # the loop that runs this coroutine holds what it got last
        gc.collect()
        self.assertFalse(is_alive(pid))
        self.assertFalse(directory.exists())

    def test_fork_does_not_end_the_server_of_its_parent(self) -> None:
        """A forked child that ends in the regular way leaves the server alone."""
        code = (
            "import os, sys\n"
            "from pynats_twisted.testing import ServerProcess\n"
            "with ServerProcess.running() as server:\n"
            "    if (child := os.fork()) == 0:\n"
            "        server._finalizer()\n"
            "        os._exit(0)\n"
            "    os.waitpid(child, 0)\n"
            "    assert server.is_running and server.directory.exists()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_program_that_forgets_its_server_leaves_no_process(self) -> None:
        """A server is ended when the interpreter that started it ends, also by an exception."""
        code = (
            "from pynats_twisted.testing import BlockingServerProcess\n"
            "server = BlockingServerProcess().start()\n"
            "print(server.pid, server.directory, flush=True)\n"
            "raise SystemExit(3)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        pid, directory = done.stdout.split()
        self.assertFalse(is_alive(int(pid)))
        self.assertFalse(Path(directory).exists())


class BlockingTests(TestCase):
    """The same without a reactor."""

    def test_with_block(self) -> None:
        """``with ServerProcess.running()`` gives a started server, and closes it at the end."""
        with ServerProcess.running({"max_payload": 77}, name="blocking") as server:
            info = first_info(server.host, server.port)
            self.assertEqual((info["max_payload"], info["server_name"]), (77, "blocking"))
            pid = server.pid
        assert pid is not None
        self.assertFalse(is_alive(pid))
        self.assertFalse(server.directory.exists())

    def test_with_block_that_raises(self) -> None:
        """The server is closed when the block raises, and when the start fails."""
        with self.assertRaises(ZeroDivisionError), ServerProcess.running() as server:
            pid = server.pid
            raise ZeroDivisionError
        assert pid is not None
        self.assertFalse(is_alive(pid))
        with self.assertRaises(ServerProcessError), ServerProcess.running("no_such_option: 1"):
            self.fail("started")

    def test_every_operation(self) -> None:
        """All that can be done with a reactor can be done without."""
        with ServerProcess.running(monitoring=True, lame_duck_grace=0.05) as server:
            port = server.port
            self.assertIs(server.restart(), server)
            self.assertEqual(server.kill(), -signal.SIGKILL)
            self.assertIs(server.start(), server)
            server.reload(config={"max_payload": 99})
            with Witness(server.url) as witness:
                self.assertEqual(witness.infos[0]["max_payload"], 99)
                self.assertEqual(server.monitor("connz")["num_connections"], 1)
                server.pause()
                self.assertRaises(WitnessError, witness.flush, 0.05)
                server.resume()
                witness.flush()
                server.lame_duck()
                witness.wait_for_info(lambda info: bool(info.get("ldm")))
            self.assertEqual(server.wait_ended(), 0)
            self.assertEqual(server.port, port)
            server.start()
            self.assertEqual(server.stop(), 0)

    def test_works_without_a_reactor(self) -> None:
        """No reactor is installed in a program that uses the blocking form."""
        code = (
            "import sys\n"
            "from pynats_twisted.testing import ServerProcess\n"
            "with ServerProcess.running(jetstream=True) as server:\n"
            "    server.restart(kill=True)\n"
            "assert 'twisted.internet.reactor' not in sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class PortTests(TestCase):
    """Ports that stay reserved."""

    def test_server_listens_on_a_reserved_port_that_nobody_else_gets(self) -> None:
        """While a port is reserved the system gives it to nobody who asks for a free one, and a server can listen on it."""
        if not reservations_can_be_shared():
            self.assertNotEqual(sys.platform, "linux")
            return  # a system on which the port is free while its server is down
        reservation = PortReservation()
        self.addCleanup(reservation.release)
        reservation.let_listen()
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((reservation.host, reservation.port))
            listener.listen()
            self.assertTrue(can_connect(reservation.port))
        with socket.socket() as thief:
            self.assertRaises(OSError, thief.bind, (reservation.host, reservation.port))

    def test_address_of_another_machine(self) -> None:
        """An address that is not of this machine is an error that names it."""
        error = self.assertRaises(ServerProcessError, PortReservation, "192.0.2.1")
        self.assertIn("192.0.2.1", str(error))

    def test_system_without_shared_reservations(self) -> None:
        """Where a reserved port cannot be listened on, it is given free for the server and taken again after it."""
        unshared = mock.patch("pynats_twisted.testing.ports.reservations_can_be_shared", return_value=False)
        with unshared, ServerProcess.running() as server:
            server.restart(kill=True)
            self.assertTrue(can_connect(server.port))
            server.stop()
            with socket.socket() as thief:
                self.assertRaises(OSError, thief.bind, (server.host, server.port))


class OptionTests(TestCase):
    """Options that make no sense."""

    def assert_refused(self, *texts: str, **options: object) -> None:
        error = self.assertRaises(ConfigurationError, ServerProcess.running(**options).__enter__)
        for text in texts:
            self.assertIn(text, str(error))

    def test_refused_options(self) -> None:
        """The error names the option and the rule, and nothing is started."""
        self.assert_refused("'jetstreem'", "did you mean 'jetstream'", jetstreem=True)
        self.assert_refused("port", "0", "1 to 65535", port=0)
        self.assert_refused("user and password", user="a")
        self.assert_refused("user and token", user="a", password="b", token="t")
        self.assert_refused("lame_duck_duration", "30", lame_duck_duration=2)
        self.assert_refused("lame_duck_grace", "-1", lame_duck_grace=-1)
        self.assert_refused("lame_duck_grace", "31", lame_duck_grace=31)
        self.assert_refused("unknown", "went", config={}, went=1)
        self.assert_refused("program", "no/such/program", program="no/such/program")
