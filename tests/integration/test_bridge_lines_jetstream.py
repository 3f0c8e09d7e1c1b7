"""``lines-in`` with ``confirm = "jetstream"`` and a real server: what is answered OK is stored."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from pynats_twisted.jetstream.api import DiscardPolicy
from tests.integration.lines_case import TCP, UDP, LinesCase

ROOT = Path(__file__).resolve().parent.parent.parent
REPLY = 'reply = { ok = "OK\\n", error = "ERROR\\n" }\n'
KILLS = 4


def numbered(first: int, count: int) -> bytes:
    """Lines with numbers."""
    return b"".join(b"%d\n" % index for index in range(first, first + count))


class BridgeProcess(ProcessProtocol):
    """A bridge as a process of its own."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.is_alive:
            self.transport.signalProcess("KILL")
            await self.ended


class JetStreamLinesTests(LinesCase):
    """Lines on their way into a stream."""

    route_keys = 'type = "lines-in"\nsubject = "plant.lines"\nconfirm = "jetstream"\n'

    async def test_stored_and_answered(self) -> None:
        """A line is answered when the stream has it; all are there, in their order, each with an id."""
        await self.start_streams()
        await self.create_stream()
        await self.start_bridge(TCP + REPLY)
        peer = await self.peer()
        peer.send(numbered(0, 1000))
        await self.until(lambda: peer.got == b"OK\n" * 1000, what="the replies")
        stored = await self.stored()
        self.assertEqual([int(msg.data) for msg in stored], list(range(1000)))
        self.assertEqual(len({(msg.headers or {})["Nats-Msg-Id"] for msg in stored}), 1000)
        self.assertEqual((self.number("messages_out_total"), self.number("retries_total")), (1000, 0))

    async def test_no_stream_yet(self) -> None:
        """Lines wait for their stream: the route says so meanwhile, and nothing is lost or out of order when it is there."""
        await self.start_streams()
        await self.start_bridge(TCP + REPLY + "window = 8\n")
        peer = await self.peer()
        peer.send(numbered(0, 100))
        await self.until(lambda: self.bridge.problems(), what="the problem")
        self.assertIn("routes.lines: lines are not stored: plant.lines: no stream takes", self.bridge.problems()[0])
        self.assertEqual(peer.got, b"")
        await self.create_stream()
        await self.until(lambda: peer.got == b"OK\n" * 100, what="the replies")
        self.assertEqual([int(msg.data) for msg in await self.stored()], list(range(100)))
        self.assertEqual(self.bridge.problems(), [])

    async def test_a_full_stream(self) -> None:
        """A stream that is full and discards nothing holds its senders until it has room."""
        await self.start_streams()
        stream = await self.create_stream(max_msgs=10, discard=DiscardPolicy.NEW)
        await self.start_bridge(TCP + REPLY + "window = 4\n")
        peer = await self.peer()
        peer.send(numbered(0, 20))
        await self.until(lambda: self.bridge.problems(), what="the problem")
        self.assertIn("maximum messages exceeded", self.bridge.problems()[0])
        self.assertLessEqual(peer.got.count(b"OK\n"), 10)
        await self.until(lambda: peer.got.count(b"OK\n") == 10, what="the first replies")
        await stream.purge()
        await self.until(lambda: peer.got == b"OK\n" * 20, what="the replies")
        self.assertEqual([int(msg.data) for msg in await self.stored()], list(range(10, 20)))

    async def test_too_large_for_the_stream(self) -> None:
        """A line that the stream never takes is answered with the error, and holds nobody."""
        await self.start_streams()
        await self.create_stream(max_msg_size=200)
        await self.start_bridge(TCP + REPLY)
        peer = await self.peer()
        peer.send(b"1\n" + b"x" * 300 + b"\n2\n")
        await self.until(lambda: peer.got == b"OK\nERROR\nOK\n", what="the replies")
        self.assertEqual([msg.data for msg in await self.stored()], [b"1", b"2"])
        self.assertEqual(self.number("messages_failed_total", reason="max-msg-size"), 1)

    async def test_denied(self) -> None:
        """A line that the bridge's user may not publish is answered with the error."""
        allowed = {"publish": ["$JS.API.>", "other.>"], "subscribe": ["_INBOX.>"]}
        users = [{"user": "bridge", "password": "x", "permissions": allowed}, {"user": "all", "password": "y"}]
        self.server = await self.start_server(jetstream=True, users=users)
        self.nc = await self.connect(f"nats://all:y@127.0.0.1:{self.server.port}")
        self.js = self.nc.jetstream()
        await self.create_stream()
        url = f"nats://127.0.0.1:{self.server.port}"
        await self.start_bridge(TCP + REPLY, url=url, nats='user = "bridge"\npassword = "x"')
        peer = await self.peer()
        peer.send(b"1\n2\n")
        await self.until(lambda: peer.got == b"ERROR\nERROR\n", what="the errors")
        self.assertIn("denies publishing to 'plant.lines'", self.bridge.problems()[0])

    async def test_least_permissions(self) -> None:
        """The bridge needs no more than the page says: its subject, and its inbox."""
        allowed = {"publish": ["plant.lines"], "subscribe": ["_INBOX.>"]}
        users = [{"user": "bridge", "password": "x", "permissions": allowed}, {"user": "all", "password": "y"}]
        self.server = await self.start_server(jetstream=True, users=users)
        self.nc = await self.connect(f"nats://all:y@127.0.0.1:{self.server.port}")
        self.js = self.nc.jetstream()
        await self.create_stream()
        url = f"nats://127.0.0.1:{self.server.port}"
        await self.start_bridge(TCP + REPLY, url=url, nats='user = "bridge"\npassword = "x"')
        peer = await self.peer()
        peer.send(b"1\n2\n")
        await self.until(lambda: peer.got == b"OK\nOK\n", what="the replies")
        self.assertEqual(self.bridge.problems(), [])

    async def test_server_killed_under_load(self) -> None:
        """The server is killed three times: every line is answered, and is in the stream exactly once."""
        await self.start_streams()
        await self.create_stream()
        await self.start_bridge(TCP + REPLY + "window = 64\n")
        peer = await self.peer()
        sent = 0
        for outage in range(4):
            peer.send(numbered(sent, 3000))
            sent += 3000
            await self.until(lambda outage=outage: peer.got.count(b"\n") > 3000 * outage + 100, what="some replies")  # type: ignore[misc]
            if outage < 3:
                await self.server.kill()
                await self.sleep(0.05)
                await self.server.start()
        await self.until(lambda: peer.got.count(b"\n") == sent, what="all replies")
        self.assertEqual(peer.got, b"OK\n" * sent)
        await self.nc.when_connected()
        self.assertEqual(sorted(int(msg.data) for msg in await self.stored()), list(range(sent)))
        self.assertEqual((self.number("in_flight"), self.number("messages_out_total")), (0, sent))

    async def test_lost_connections(self) -> None:
        """What the bridge sends disappears, then the connection ends, again and again: every line is stored once."""
        await self.start_streams()
        await self.create_stream()
        proxy = await self.start_proxy(self.server)
        await self.start_bridge(TCP + REPLY + "window = 64\n", url=proxy.url)
        peer = await self.peer()
        for outage in range(5):
            peer.send(numbered(outage * 1000, 1000))
            await self.until(lambda outage=outage: peer.got.count(b"\n") > outage * 1000, what="a reply")  # type: ignore[misc]
            proxy.hole(proxy.to_server)
            await self.sleep(0.02)
            proxy.rst()
            await proxy.heal()
        await self.until(lambda: peer.got == b"OK\n" * 5000, what="all replies")
        self.assertEqual(sorted(int(msg.data) for msg in await self.stored()), list(range(5000)))

    async def test_without_ids(self) -> None:
        """Without message ids nothing is lost either; what was under way may be stored twice."""
        await self.start_streams()
        await self.create_stream()
        proxy = await self.start_proxy(self.server)
        await self.start_bridge(TCP + REPLY + "window = 64\nmessage_ids = false\n", url=proxy.url)
        peer = await self.peer()
        for outage in range(3):
            peer.send(numbered(outage * 500, 500))
            await self.until(lambda outage=outage: peer.got.count(b"\n") > outage * 500, what="a reply")  # type: ignore[misc]
            proxy.rst()
            await proxy.heal()
        await self.until(lambda: peer.got == b"OK\n" * 1500, what="all replies")
        stored = await self.stored()
        self.assertEqual({int(msg.data) for msg in stored}, set(range(1500)))
        self.assertLessEqual(len(stored), 1500 + 3 * 64)
        self.assertNotIn("Nats-Msg-Id", stored[0].headers or {})

    async def test_bridge_killed(self) -> None:
        """The bridge is killed again and again under load, while what it sends gets lost: no line that was answered OK is missing."""
        await self.start_streams()
        await self.create_stream()
        proxy = await self.start_proxy(self.server)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        config = Path(self.mktemp()).resolve()
        config.write_text(self.text(f'endpoint = "tcp:{port}:interface=127.0.0.1"\n' + REPLY, url=proxy.url), "utf-8")
        answered = 0
        sent = 0
        expected: set[int] = set()
        for _ in range(KILLS):
            process = BridgeProcess()
            self.addCleanup(process.kill)
            command = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()", "--config", str(config)]
            self.reactor.spawnProcess(process, sys.executable, command, {**os.environ, "PYTHONPATH": str(ROOT)})
            peer = None
            while peer is None:
                try:
                    peer = await self.peer(port)
                except ConnectError:
                    await self.sleep(0.05)
            peer.send(numbered(sent, 3000))
            await self.until(lambda peer=peer: peer.got.count(b"\n") > 200, what="replies")  # type: ignore[misc]
            proxy.hole(proxy.to_server)
            peer.send(numbered(sent + 3000, 500))
            await self.sleep(0.2)
            await process.kill()
            proxy.rst()
            await proxy.heal()
            got = await peer.ended
            self.assertEqual(got.replace(b"OK\n", b""), b"")
            # The replies are in the order of the lines.
            expected.update(range(sent, sent + got.count(b"\n")))
            answered += got.count(b"\n")
            sent += 3500
        stored = [int(msg.data) for msg in await self.stored()]
        self.assertEqual(expected - set(stored), set())
        self.assertEqual(len(stored), len(set(stored)))
        self.assertGreater(answered, 200 * KILLS)

    async def test_stop_under_load(self) -> None:
        """A stop stores and answers what was read."""
        await self.start_streams()
        await self.create_stream()
        await self.start_bridge(TCP + REPLY)
        peer = await self.peer()
        peer.send(b"line\n" * 50000)
        await self.until(lambda: peer.got, what="the first replies")
        await self.bridge.stopService()
        got = await peer.ended
        self.assertEqual(got.count(b"OK\n"), await self.count_of())
        self.assertEqual(self.number("messages_dropped_total", reason="stopped"), 0)

    async def test_pause(self) -> None:
        """A paused route reads nothing; when it is resumed, everything comes."""
        await self.start_streams()
        await self.create_stream()
        await self.start_bridge(TCP + REPLY)
        peer = await self.peer()
        peer.send(b"1\n")
        await self.until(lambda: peer.got == b"OK\n")
        self.route.pause()
        peer.send(b"2\n")
        await self.sleep(0.3)
        self.assertEqual(peer.got, b"OK\n")
        self.route.resume()
        await self.until(lambda: peer.got == b"OK\nOK\n")

    async def test_slow_peers_do_not_stop_others(self) -> None:
        """Peers that begin a line and never end it, and such that do not read their replies, take nothing from the others."""
        await self.start_streams()
        await self.create_stream()
        reply = "x" * 1000
        await self.start_bridge(TCP + f'reply = {{ ok = "{reply}" }}\n')
        for _ in range(200):
            (await self.peer()).send(b"half a line")
        for _ in range(3):
            deaf = await self.peer()
            deaf.transport.pauseProducing()
            deaf.send((b"x" * 99 + b"\n") * 20000)
        quick = await self.peer()
        quick.send(numbered(0, 1000))
        await self.until(lambda: len(quick.got) == 1000 * len(reply), what="the replies")
        # What the deaf ones do not read is bounded: the bridge has stopped to take lines from them.
        taken = self.number("messages_in_total")
        while True:
            await self.sleep(0.5)
            before, taken = taken, self.number("messages_in_total")
            if taken == before:
                break
        self.assertLess(taken, 1000 + 3 * 20000)

    async def test_datagrams_without_a_stream(self) -> None:
        """Datagrams that no stream stores are given up after ``retry_for``, and counted; later ones are stored when there is a stream."""
        await self.start_streams()
        await self.start_bridge(UDP + 'retry_for = "500ms"\n')
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.port))
            for index in range(10):
                sender.send(b"%d" % index)
            await self.until(lambda: self.number("messages_failed_total", reason="no-stream") == 10, what="giving up")
            await self.create_stream()
            sender.send(b"later")
            await self.until(lambda: self.number("messages_out_total") == 1, what="the later one")
        self.assertEqual([msg.data for msg in await self.stored()], [b"later"])
