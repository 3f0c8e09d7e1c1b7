"""The blocking client against real servers: a walk, restarts, credentials, faults, and another client beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pynats_twisted import Headers, blocking, errors
from pynats_twisted.blocking import Disconnected, LameDuck, Reconnected, ServerErrorEvent
from pynats_twisted.protocol.nkeys import create_seed, public_key, sign
from pynats_twisted.testing import Operator
from tests.support.blocking import CHECKOUT, BlockingIntegrationTestCase


class WalkTests(BlockingIntegrationTestCase):
    """What the client is for."""

    def test_walk(self) -> None:
        """Publish, subscribe, request, respond, headers, queue groups, limits and drain work against a server."""
        server = self.start_server()
        with self.connect(server, name="walk") as nc, self.connect(server) as other:
            self.assertEqual(nc.server_info.port, server.port)  # type: ignore[union-attr]
            sub = nc.subscribe("orders.*").confirmed()
            other.publish("orders.tea", b"2 kg", headers=Headers({"A": ["1", "2"]}))
            msg = sub.next(timeout=5.0)
            self.assertEqual((msg.subject, msg.data, msg.headers.get_all("A")), ("orders.tea", b"2 kg", ["1", "2"]))
            self.assertRaises(errors.NoRespondersError, nc.request, "nobody")
            self.assertLess(nc.rtt(), 10.0)

            service = other.subscribe("service", queue="workers").confirmed()
            inbox = nc.new_inbox()
            answers = nc.subscribe(inbox, max_msgs=2)
            for number in range(2):
                nc.publish("service", b"%d" % number, reply=inbox)
            nc.flush()
            for _ in range(2):
                request = service.next(timeout=5.0)
                request.respond(request.data * 3)
            self.assertEqual([answer.data for answer in answers], [b"000", b"111"])

            large = bytes(range(256)) * 4000
            sub = nc.subscribe("large").confirmed()
            other.publish("large", large)
            self.assertEqual(sub.next(timeout=5.0).data, large)
            for number in range(100):
                other.publish("large", b"%d" % number)
            other.flush()
            sub.drain()
            self.assertEqual([msg.data for msg in sub], [b"%d" % number for number in range(100)])

    def test_100_000_messages_in_order(self) -> None:
        """A hundred thousand messages of another process come all, in order."""
        server = self.start_server()
        count = 100_000
        nc = self.connect(server)
        sub = nc.subscribe("numbers", max_msgs=count).confirmed()
        publisher = self.start_script(
            """
            import sys
            from pynats_twisted import blocking

            with blocking.connect(sys.argv[1]) as nc, nc.buffered():
                for number in range(int(sys.argv[2])):
                    nc.publish("numbers", b"%d" % number)
            assert not {"twisted", "zope", "asyncio"} & set(sys.modules)
            """,
            server.url,
            str(count),
        )
        wrong = [number for number, msg in enumerate(sub) if int(msg.data) != number]
        self.assertEqual((wrong[:5], sub.delivered, sub.dropped), ([], count, 0))
        self.finish(publisher)

    def test_sending_and_receiving_more_than_the_system_holds(self) -> None:
        """A client that gets back all that it publishes reads while it sends: nothing is locked, and nothing is lost."""
        server = self.start_server()
        nc = self.connect(server)
        sub = nc.subscribe("echo", pending_msgs=0, pending_bytes=0).confirmed()
        payload = os.urandom(1_000_000)
        for _ in range(60):
            nc.publish("echo", payload)
        for _ in range(60):
            self.assertEqual(sub.next(timeout=10.0).data, payload)

    def test_one_liner(self) -> None:
        """The one-liner of the documentation publishes, and has delivered when it ends."""
        server = self.start_server()
        nc = self.connect(server)
        sub = nc.subscribe("greetings").confirmed()
        page = (CHECKOUT / "docs" / "howto" / "blocking.rst").read_text("utf-8")
        (line,) = re.findall(r"^ +(python -c .*)$", page, re.MULTILINE)
        _, *arguments = shlex.split(line.replace("nats://127.0.0.1:4222", server.url))
        self.finish(self.start_program([sys.executable, *arguments]))
        self.assertEqual(sub.next(timeout=5.0).data, b"hello")

    def test_ctrl_c(self) -> None:
        """A signal whose handler raises ends the call that waits; the client goes on as if nothing had been."""
        server = self.start_server()
        nc = self.connect(server)
        sub = nc.subscribe("x").confirmed()
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            self.assertRaises(KeyboardInterrupt, sub.next)
        finally:
            signal.signal(signal.SIGALRM, before)
        nc.publish("x", b"1")
        self.assertEqual(sub.next(timeout=5.0).data, b"1")
        self.assertEqual(nc.stats.reconnects, 0)

    def test_fork(self) -> None:
        """A forked process cannot use or harm its parent's connection."""
        server = self.start_server()
        process = self.start_script(
            """
            import os, sys
            from pynats_twisted import blocking, errors

            with blocking.connect(sys.argv[1]) as nc:
                sub = nc.subscribe("x").confirmed()
                child = os.fork()
                if child == 0:
                    try:
                        nc.publish("x", b"child")
                    except errors.ConcurrentUseError:
                        nc.close()
                        os._exit(7)
                    os._exit(0)
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                nc.publish("x", b"parent")
                print(sub.next(timeout=5.0).data, nc.stats.reconnects)
            """,
            server.url,
        )
        self.assertEqual(self.finish(process), "7\nb'parent' 0\n")


class FaultTests(BlockingIntegrationTestCase):
    """Servers that go and come."""

    def test_restart_in_the_middle(self) -> None:
        """Subscriptions go on over a restart, what is published meanwhile is sent after it, and everything comes once and in order."""
        server = self.start_server()
        events: list[Any] = []
        nc = self.connect(server, on_event=events.append)
        sub = nc.subscribe("numbers")
        for number in range(1000):
            nc.publish("numbers", b"%d" % number)
        nc.flush()
        server.stop()
        nc.process()
        for number in range(1000, 2000):
            nc.publish("numbers", b"%d" % number)
        self.assertFalse(nc.is_connected)
        server.start()
        for number in range(2000, 3000):
            nc.publish("numbers", b"%d" % number)
        nc.flush()
        received = [int(sub.next(timeout=5.0).data) for _ in range(3000)]
        self.assertEqual(received, list(range(3000)))
        self.assertEqual(nc.stats.reconnects, 1)
        self.assertEqual([type(event) for event in events if isinstance(event, (Disconnected, Reconnected))], [Disconnected, Reconnected])

    def test_killed_while_it_publishes(self) -> None:
        """Messages that were flushed without an error have all arrived, over servers that are killed; none comes twice."""
        server = self.start_server()
        nc = self.connect(server, reconnect_wait=0.01, max_reconnect_attempts=-1)
        received: list[int] = []
        owed: list[int] = []
        first = 0
        for _ in range(5):
            sub = nc.subscribe("numbers", pending_msgs=0).confirmed()
            for _ in range(5):
                batch = range(first, first + 200)
                first += 200
                for number in batch:
                    nc.publish("numbers", b"%d" % number)
                nc.flush()
                owed += batch
            server.kill()
            for number in range(first, first + 200):
                nc.publish("numbers", b"%d" % number)
            first += 200
            server.start()
            for _ in range(2):
                try:
                    nc.flush()
                    break
                except errors.DisconnectedError:
                    continue
            sub.drain()
            received += [int(msg.data) for msg in sub]
        self.assertEqual(len(received), len(set(received)))
        self.assertEqual(sorted(set(owed) - set(received)), [])
        self.assertEqual(received, sorted(received))

    def test_cluster(self) -> None:
        """The servers of a cluster are discovered, and one that dies is replaced by another inside the call that waits."""
        cluster = self.start_cluster(3)
        first = cluster.servers[0]
        nc = self.connect(first)
        other = self.connect(cluster.servers[1])
        nc.flush()
        self.assertEqual(len(nc.servers), 3)
        sub = nc.subscribe("x").confirmed()
        first.kill()
        sub.confirmed()
        self.assertNotEqual(nc.connected_url, first.url)

        def arrives() -> bool:
            other.publish("x", b"1")
            other.flush()
            try:
                return sub.next(timeout=0.1).data == b"1"
            except errors.NextMessageTimeoutError:
                return False

        self.until(arrives)

    def test_lame_duck(self) -> None:
        """A server in lame duck mode is left for another before it throws its clients out, and no publish is in doubt."""
        cluster = self.start_cluster(2, lame_duck_grace=5.0)
        first = cluster.servers[0]
        events: list[Any] = []
        nc = self.connect(first, on_event=events.append)
        sub = nc.subscribe("x").confirmed()
        nc.process(timeout=0.5)
        begun = time.monotonic()
        first.lame_duck()
        self.until(lambda: nc.process(timeout=0.1) or nc.connected_url not in (None, first.url))
        self.assertLess(time.monotonic() - begun, 4.0)
        nc.publish("x", b"1")
        self.assertEqual(sub.next(timeout=5.0).data, b"1")
        told = [event for event in events if isinstance(event, (LameDuck, Disconnected))]
        self.assertEqual(told, [LameDuck(first.url), Disconnected(first.url, None, 0)])

    def test_a_server_that_freezes(self) -> None:
        """A server that stops answering is noticed by the client's PINGs, in the call that waits, and replaced."""
        frozen, other = self.start_server(), self.start_server()
        nc = self.connect([frozen.url, other.url], shuffle_servers=False, ping_interval=0.1, max_pings_out=2, connect_timeout=0.5)
        sub = nc.subscribe("x").confirmed()
        frozen.pause()
        self.addCleanup(frozen.resume)
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 1.5)
        self.assertEqual(nc.connected_url, other.url)

    def test_a_program_that_does_not_call(self) -> None:
        """A server cuts a client whose program does not call for long; one that calls process() now and then stays."""
        server = self.start_server({"ping_interval": "500ms", "ping_max": 1})
        silent, living = self.connect(server), self.connect(server)
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            living.process()
            time.sleep(0.1)
        living.flush()
        with self.assertLogs("pynats_twisted.blocking", "WARNING"):
            silent.process()
        silent.flush()
        self.assertEqual((living.stats.reconnects, silent.stats.reconnects), (0, 1))

    def test_give_up(self) -> None:
        """Without a server the client ends after its attempts, and says what was wrong."""
        server = self.start_server()
        nc = self.connect(server, max_reconnect_attempts=2, reconnect_wait=0.01)
        server.close()
        with self.assertLogs("pynats_twisted.blocking", "ERROR"):
            error = self.assertRaises(errors.ConnectionClosedError, nc.subscribe("x").next)
        self.assertIsInstance(error.__cause__, errors.NoServersError)
        self.assertRaises(errors.NoServersError, self.connect, server.url)


class AuthenticationTests(BlockingIntegrationTestCase):
    """Every kind of credentials, each also after a reconnect."""

    def works(self, server: Any, servers: str = "", **options: Any) -> None:
        nc = self.connect(servers or server, reconnect_wait=0.01, **options)
        nc.flush()
        server.restart()
        nc.flush()
        self.assertEqual(nc.stats.reconnects, 1)

    def test_user_and_password(self) -> None:
        """A user with a password, in options, as callables, and in the URL."""
        server = self.start_server(user="ann", password="tea")
        self.works(server, user="ann", password="tea")
        self.works(server, user=lambda: "ann", password=lambda: "tea")
        self.works(server, f"nats://ann:tea@127.0.0.1:{server.port}")

    def test_token(self) -> None:
        """A token, in options and in the URL."""
        server = self.start_server(token="s3cret")
        self.works(server, token="s3cret")
        self.works(server, f"nats://s3cret@127.0.0.1:{server.port}")

    def test_nkey(self) -> None:
        """An NKey, as a seed, in a file, and by a signing callable."""
        seed = create_seed("user")
        server = self.start_server(users=[{"nkey": public_key(seed)}])
        path = Path(self.mktemp())
        path.write_text(seed)
        path.chmod(0o600)
        self.works(server, nkey_seed=seed)
        self.works(server, nkey_seed_file=path)
        self.works(server, nkey_public=public_key(seed), sign_nonce=lambda nonce: sign(seed, nonce))

    def test_jwt(self) -> None:
        """A user's JWT with a signing callable, a creds file, and its text."""
        operator = Operator()
        user = operator.account("A").user("one")
        server = self.start_server(operator=operator)
        path = Path(self.mktemp())
        user.write_creds(path)
        self.works(server, user_jwt=user.jwt, sign_nonce=user.sign)
        self.works(server, creds_file=path)
        self.works(server, creds=user.creds)

    def test_creds_file_that_others_can_read(self) -> None:
        """A file with secrets that others can read is used, and warned of."""
        operator = Operator()
        path = Path(self.mktemp())
        operator.account("A").user("one").write_creds(path)
        path.chmod(0o644)
        server = self.start_server(operator=operator)
        with self.assertLogs("pynats_twisted.blocking", "WARNING") as logged:
            self.connect(server, creds_file=path)
        self.assertIn(str(path), logged.output[0])

    def test_refused(self) -> None:
        """Wrong credentials are a clear error, without them in it."""
        server = self.start_server(user="ann", password="tea")
        error = self.assertRaises(errors.NoServersError, blocking.connect, server.url, user="ann", password="c0ffee")
        self.assertIsInstance(error.reasons[0][1], errors.AuthorizationViolationError)
        self.assertNotIn("c0ffee", str(error))

    def test_permissions(self) -> None:
        """What is denied is told to the call that asked, and the rest goes on."""
        permissions = {"publish": {"deny": ["no.>"]}, "subscribe": {"deny": ["no.>"]}}
        server = self.start_server(users=[{"user": "u", "password": "p", "permissions": permissions}])
        events: list[Any] = []
        nc = self.connect(server, user="u", password="p", on_event=events.append)
        self.assertRaises(errors.PermissionsViolationError, nc.subscribe("no.way").confirmed)
        self.assertRaises(errors.PermissionsViolationError, nc.subscribe("no.way", queue="q").next, 5.0)
        self.assertRaises(errors.PermissionsViolationError, nc.request, "no.way")
        with self.assertLogs("pynats_twisted.blocking", "WARNING"):
            nc.publish("no.way")
            nc.flush()
        self.assertEqual(len([event for event in events if isinstance(event, ServerErrorEvent)]), 4)
        self.assertEqual(nc.stats.reconnects, 0)


class InteropTests(BlockingIntegrationTestCase):
    """A peer on nats-py in another process, and the blocking client."""

    def do(self, nc: blocking.BlockingClient, **order: Any) -> Any:
        """Let the peer do something."""
        return json.loads(nc.request("peer.do", json.dumps(order).encode()).data)

    def answers(self, nc: blocking.BlockingClient) -> bool:
        try:
            return nc.request("peer.echo", b"", timeout=1.0).data == b" from the peer"
        except (errors.NoRespondersError, errors.RequestTimeoutError):
            return False

    def test_both_directions(self) -> None:
        """Plain messages, headers, requests and shared queue groups work from each client to the other, also after a restart."""
        server = self.start_server()
        peer = self.start_program([sys.executable, "-m", "tests.integration.test_interop", server.url])
        assert peer.stdout is not None
        self.assertEqual(peer.stdout.readline(), "ready\n")
        nc = self.connect(server)
        for restarted in (False, True):
            if restarted:
                nc.flush()
                server.restart()
                self.until(lambda: self.answers(nc))
                with contextlib.suppress(errors.DisconnectedError):
                    # The first question may have gone to the server that went.
                    nc.flush()
            self.talk(nc)
        self.do(nc, do="end")
        peer.communicate(timeout=10)
        self.assertEqual(peer.returncode, 0)

    def talk(self, nc: blocking.BlockingClient) -> None:
        before = len(self.do(nc, do="seen"))
        nc.publish("record.plain", b"hello")
        nc.publish("record.headers", b"", headers=Headers([("A", "1"), ("A", "2"), ("b", "ü")]))
        nc.flush()
        seen = self.do(nc, do="seen")[before:]
        self.assertEqual(seen, [["record.plain", "hello", {}], ["record.headers", "", {"A": "2", "b": "ü"}]])

        back = nc.subscribe("back.*").confirmed()
        self.do(nc, do="publish", subject="back.plain", data="hello back")
        msg = back.next(5)
        self.assertEqual((msg.subject, msg.data, dict(msg.headers)), ("back.plain", b"hello back", {}))
        self.do(nc, do="publish", subject="back.headers", data="x", headers={"Name": "värde", "Empty": ""})
        self.assertEqual(dict(back.next(5).headers), {"Name": "värde", "Empty": ""})
        back.unsubscribe()

        reply = nc.request("peer.echo", b"ping", headers={"One": "1", "Two": "2"})
        self.assertEqual((reply.data, reply.headers["Seen"]), (b"ping from the peer", "One,Two"))

        # A request of the peer, which we answer while the peer's own answer is waited for.
        echo = nc.subscribe("us.echo").confirmed()
        inbox = nc.new_inbox()
        done = nc.subscribe(inbox)
        order = {"do": "request", "subject": "us.echo", "data": "ping", "headers": {"Q": "q"}}
        nc.publish("peer.do", json.dumps(order).encode(), reply=inbox)
        request = echo.next(5)
        request.respond(request.data + b" from us", headers={"Got": request.headers["Q"]})
        self.assertEqual(json.loads(done.next(5).data), ["ping from us", {"Got": "q"}])
        echo.unsubscribe()
        done.unsubscribe()

        worked = nc.subscribe("worked", max_msgs=200)
        ours = nc.subscribe("work", queue="workers").confirmed()
        for number in range(200):
            nc.publish("work", b"%d" % number)
        nc.flush()
        ours.drain()
        shares = Counter({"us": ours.pending_msgs})
        for msg in ours:
            nc.publish("worked", b"us:" + msg.data)
        results = [msg.data.split(b":") for msg in worked]
        self.assertEqual(sorted(int(number) for _, number in results), list(range(200)))
        shares["peer"] = sum(who == b"peer" for who, _ in results)
        self.assertEqual((min(shares.values()) > 0, sum(shares.values())), (True, 200))
