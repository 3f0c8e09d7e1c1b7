"""What bridges between NATS and HTTP are known to get wrong, as things that this one does not do."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from pynats_twisted import Msg
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.errors import ConfigError
from pynats_twisted.jetstream.api import StreamConfig
from pynats_twisted.protocol.nkeys import create_seed, public_key
from tests.integration.bridge_http_case import HEAD, HOOKS, ORDERS, Body, BridgeHTTPCase, parse
from tests.integration.webhook_case import WebhookCase, quick
from tests.support.webhook_target import HANG, OK, Received, answer

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()", "--config"]
STORED = HOOKS.replace('confirm = "server"\n', "")


class AnswerTests(BridgeHTTPCase):
    """What the callers of services are told."""

    async def test_each_failure_has_its_own_status(self) -> None:
        """Nobody there, too slow, too large, not reachable: four things that a caller treats differently, and none is 500, 502 or 404."""
        client = await self.start(ORDERS + 'timeout = "300ms"\nmax_body = 1000')
        self.server_of_none = await self.start_server()
        self.assertEqual((await self.http("PUT", "/orders/silent", b"x")).status, 504)
        self.assertEqual((await self.http("PUT", "/orders/7", b"x" * 1001)).status, 413)
        await client.close()
        self.assertEqual((await self.http("PUT", "/orders/7", b"x")).status, 503)
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        self.assertEqual((await self.http("PUT", "/orders/7", b"x")).status, 503)

    async def test_status_of_the_service_is_kept(self) -> None:
        """What a service answers is what its caller gets: 201, 302, 404, 422, 500 and 503, with their bodies."""
        client = await self.start(ORDERS)

        async def serve(msg: Msg) -> None:
            await msg.respond(msg.subject.encode(), headers={"Nats-Http-Status": msg.subject.rpartition(".")[2]})

        await client.subscribe("svc.orders.>", serve)
        for status in (200, 201, 302, 404, 422, 500, 503):
            found = await self.http("GET", f"/orders/{status}")
            self.assertEqual((found.status, found.body), (status, b"svc.orders.GET.%d" % status))

    async def test_body_has_a_bound(self) -> None:
        """A body without a length and without an end is cut off at the bound, and takes no more memory than that."""
        await self.start(ORDERS + "max_body = 100000")
        connection = await self.raw(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        while not connection.closed and sent < 20_000_000 and not connection.received:
            connection.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            sent += 10_000
            self.assertLessEqual(self.bridge.listeners["public"]._body_bytes, 100_000)
            await self.sleep(0)
        await self.until(lambda: connection.received)
        self.assertEqual(parse(connection.received).status, 413)
        self.assertEqual((await self.http("PUT", "/orders/7", Body(b"x" * 200_000, chunked=True))).status, 413)
        self.assertEqual(self.seen, [])

    async def test_all_values_of_a_header_pass(self) -> None:
        """A header that is there more than once keeps all its values, in both directions."""
        client = await self.start(ORDERS + 'request_headers = ["x-tag"]\nresponse_headers = ["set-cookie"]')
        await client.subscribe("svc.>", lambda msg: msg.respond(b"x", headers={"Set-Cookie": ["a=1", "b=2"]}))
        found = await self.http("GET", "/orders/7", headers={"X-Tag": ["1", "2", "3"]})
        self.assertEqual(found.headers["set-cookie"], ["a=1", "b=2"])
        self.assertEqual(self.seen[0].headers.get_all("X-Tag"), ["1", "2", "3"])

    async def test_credentials(self) -> None:
        """The bridge logs in to NATS as servers ask for it: here with an NKey, which no log and no page shows."""
        seed = create_seed("user")
        path = Path(self.mktemp()).resolve()
        path.write_text(seed, "ascii")
        path.chmod(0o600)
        server = await self.start_server(users=[{"nkey": public_key(seed)}])
        await self.start_bridge(HOOKS, server, nats=f"nkey = {{ file = '{path}' }}")
        self.assertEqual((await self.http("POST", "/hooks/a", b"x")).status, 202)
        self.assertNotIn(seed, repr(self.bridge.config))


class ControlTests(BridgeHTTPCase):
    """What callers cannot do."""

    async def test_no_header_of_a_caller_controls_a_stream(self) -> None:
        """A stream that allows rollups and message TTLs is neither emptied nor expired by who may only publish, on either type of route."""
        self.server = await self.start_server(jetstream=True)
        nc = await self.connect(self.server)
        js = nc.jetstream()
        stream = await js.create_stream(
            StreamConfig(name="ALL", subjects=["hooks.>", "svc.>"], allow_rollup_hdrs=True, allow_msg_ttl=True, allow_msg_schedules=True)
        )
        await self.start_bridge(STORED + ORDERS, self.server)
        headers = {
            "Nats-Rollup": "all", "nats-rollup": "sub", "Nats-TTL": "1s", "Nats-Expected-Last-Sequence": "0", "Nats-Msg-Id": "same",
            "Nats-Expected-Stream": "NONE", "Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "hooks.z", "Nats-Trace-Dest": "spy",
            "Nats-Marker-Reason": "Purge", "Nats-Required-Api-Level": "99",
        }  # fmt: skip
        for _ in range(3):
            self.assertEqual((await self.http("POST", "/hooks/a", b"x", headers)).status, 202)
            # A stream answers a request by its ack.
            self.assertEqual((await self.http("PUT", "/orders/7", b"x", headers)).status, 200)
        self.assertEqual((await stream.info()).state.messages, 6)
        for seq in range(1, 7):
            names = set((await stream.get_msg(seq)).headers)
            self.assertEqual({name for name in names if not name.startswith("Nats-Bridge-")} - {"Nats-Msg-Id"}, set())

    def test_no_list_lets_them_pass(self) -> None:
        """Nor can a configuration let them: it is refused."""
        for name in ("Nats-Rollup", "nats-msg-id", "cookie", "authorization", "connection"):
            text = HEAD.format(url="nats://127.0.0.1:4222", nats="", listen="", endpoint="tcp:0") + HOOKS + f'request_headers = ["{name}"]'
            error = self.assertRaises(ConfigError, load_config, text, "bridge.toml", builtin_factories())
            self.assertIn("request_headers", str(error))

    async def test_caller_does_not_choose_the_subject(self) -> None:
        """No parameter, header or trick with the path takes a message to another subject than the route's."""
        await self.start(HOOKS + ORDERS)
        for path in ("/hooks/a?subject=svc.evil", "/hooks/a?reply=svc.evil&to=$JS.API.STREAM.DELETE.X", "/hooks/a#svc.evil"):
            await self.http("POST", path, b"x", {"Subject": "svc.evil", "X-Nats-Subject": "svc.evil", "Reply-To": "svc.evil"})
        for path in ("/hooks/a%2Eb", "/hooks/%3E", "/hooks/a%0d%0aPUB%20svc.evil%201", "/hooks/..%2f..%2fsvc", "/hooks/$JS%2EAPI"):
            self.assertEqual((await self.http("POST", path, b"x")).status, 400)
        self.assertEqual({msg.subject for msg in self.seen}, {"hooks.a"})

    async def test_id_of_the_sender_is_kept(self) -> None:
        """The id of a message is made of what the sender says, the same for each repetition, whichever bridge it comes through."""
        self.server = await self.start_server(jetstream=True)
        js = (await self.connect(self.server)).jetstream()
        stream = await js.create_stream(StreamConfig(name="ALL", subjects=["hooks.>"]))
        for _ in range(2):
            await self.start_bridge(STORED + 'dedupe = "header:x-id"', self.server)
            await self.http("POST", "/hooks/a", b"x", {"X-Id": "42"})
        self.assertEqual((await stream.info()).state.messages, 1)
        self.assertEqual((await stream.get_msg(1)).headers["Nats-Msg-Id"], "hooks:42")

    async def test_what_failed_is_not_hidden_by_what_came_after(self) -> None:
        """When one message of many is not stored, the sender is not told that all is well because a later one was."""
        self.server = await self.start_server(jetstream=True)
        js = (await self.connect(self.server)).jetstream()
        await js.create_stream(StreamConfig(name="ALL", subjects=["hooks.>"], max_msg_size=200))
        await self.start_bridge(STORED + 'batch = "ndjson"', self.server)
        found = await self.http("POST", "/hooks/a", b"1\n" + b"2" * 300 + b"\n3\n")
        self.assertEqual((found.status, found.problem["published"]), (413, 2))


class TargetTests(WebhookCase):
    """Messages of a stream on their way to HTTP."""

    async def test_acked_after_the_target_took_it(self) -> None:
        """While a target thinks, nothing is acked: what the bridge holds is still the stream's."""
        await self.start_streams()
        target = self.target(HANG)
        await self.start_bridge(crm=(target, 'timeout = "60s"'))
        await self.publish(b"one", b"two")
        await self.until(lambda: len(target.received) == 2)
        info = await self.info()
        self.assertEqual((info.num_ack_pending, info.ack_floor.stream_seq), (2, 0))
        for request in target.received:
            request.connection.transport.write(OK)
        await self.finished()
        self.assertEqual((await self.info()).ack_floor.stream_seq, 2)

    async def test_every_success_is_one(self) -> None:
        """200, 201, 202, 204 and 299 all say that the target has it."""
        await self.start_streams()
        target = self.target(lambda request: answer(int(request.body)))
        await self.start_bridge(crm=(target, quick()))
        await self.publish(b"200", b"201", b"202", b"204", b"299")
        await self.finished()
        self.assertEqual(sorted(target.bodies), [b"200", b"201", b"202", b"204", b"299"])

    async def test_what_nobody_can_take_is_not_delivered_for_ever(self) -> None:
        """A message that the target refuses for good is tried once, kept as a dead letter with its headers, and does not come again."""
        await self.start_streams()
        target = self.target(lambda request: answer(422) if request.body == b"poison" else OK)
        await self.start_bridge(crm=(target, quick()))
        await self.publish(b"poison", headers={"Nats-Msg-Id": "mine", "X-Tag": ["1", "2"]})
        await self.publish(b"good")
        await self.finished()
        self.assertEqual(sorted(target.bodies), [b"good", b"poison"])
        (letter,) = await self.route().dead_letters(10)
        self.assertEqual(
            (letter.data, list(letter.headers["X-Tag"]), list(letter.headers["Nats-Msg-Id"])), (b"poison", ["1", "2"], ["mine"])
        )

    async def test_dead_letters_are_not_dropped(self) -> None:
        """Where there is no stream for dead letters yet, what failed stays in its own stream until there is one."""
        await self.start_streams(dlq=False)
        target = self.target(answer(422))
        await self.start_bridge(crm=(target, quick()))
        await self.publish(b"one")
        await self.until(lambda: target.received and self.count("dlq_total") == 0)
        await self.sleep(0.3)
        self.assertEqual((await self.info()).ack_floor.stream_seq, 0)
        await self.js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"], allow_direct=True))
        await self.finished()
        self.assertEqual([letter.data for letter in await self.route().dead_letters(10)], [b"one"])

    async def test_failure_is_not_tried_again_at_once(self) -> None:
        """A target that is down is left alone between attempts, as long as the schedule says; nor is the server asked to send at once."""
        await self.start_streams()
        target = self.target(answer(500))
        await self.start_bridge(crm=(target, 'retry = { schedule = ["700ms"], max_attempts = 3, jitter = 0 }'))
        await self.publish(b"one")
        await self.until(lambda: len(target.received) == 3)
        times = [request.at for request in target.received]
        self.assertGreater(min(second - first for first, second in pairwise(times)), 0.65)

    async def test_many_at_a_time(self) -> None:
        """Messages do not wait for each other: as many are on their way as ``concurrency`` says."""
        await self.start_streams()
        target = self.target(HANG)
        await self.start_bridge(crm=(target, "concurrency = 12"))
        await self.publish(*(b"%d" % number for number in range(20)))
        await self.until(lambda: len(target.received) == 12)
        await self.sleep(0.2)
        self.assertEqual(len(target.received), 12)
        target.answers = lambda request: OK
        for request in list(target.received):
            request.connection.transport.write(OK)
        await self.finished()

    async def test_reader_does_not_answer_for_others(self) -> None:
        """Who publishes with a reply subject gets the answer of the stream and no other: an ack of the bridge is for its consumer alone."""
        await self.start_streams()
        answers: list[Msg] = []
        inbox = self.nc.new_inbox()
        await self.nc.subscribe(inbox, answers.append)
        target = self.target()
        await self.start_bridge(crm=(target, ""))
        await self.nc.publish("orders.new", b"one", reply=inbox)
        await self.finished()
        await self.until(lambda: target.received and answers)
        await self.nc.flush()
        self.assertEqual([json.loads(msg.data)["stream"] for msg in answers], ["ORDERS"])

    async def test_all_values_of_a_header_arrive(self) -> None:
        """A target gets all values of a header."""
        await self.start_streams()
        received: list[Received] = []
        target = self.target(lambda request: received.append(request) or OK)  # type: ignore[func-returns-value]
        await self.start_bridge(crm=(target, 'request_headers = ["x-tag"]'))
        await self.publish(b"one", headers={"X-Tag": ["1", "2", "3"]})
        await self.finished()
        self.assertEqual(received[0].headers["x-tag"], ["1", "2", "3"])


class BridgeProcess(ProcessProtocol):
    """A bridge as a process of its own."""

    transport: Any

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True

    def errReceived(self, data: bytes) -> None:
        self.output += data

    outReceived = errReceived

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def kill(self) -> None:
        if self.is_alive:
            self.transport.signalProcess("KILL")
            await self.ended


class ReloadTests(BridgeHTTPCase):
    """A configuration that is changed while the bridge runs."""

    async def test_bad_configuration_ends_nothing(self) -> None:
        """A reload of a file that is wrong is told and changes nothing: the bridge answers as before."""
        server = await self.start_server()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        text = HEAD.format(url=server.url, nats="", listen="", endpoint=f"tcp:{self.port}:interface=127.0.0.1") + HOOKS
        config = Path(self.mktemp()).resolve()
        config.write_text(text, "utf-8")
        process = BridgeProcess()
        self.addCleanup(process.kill)
        self.reactor.spawnProcess(process, sys.executable, [*COMMAND, str(config)], {**os.environ, "PYTHONPATH": str(ROOT)})

        async def status() -> int:
            try:
                return (await self.http("POST", "/hooks/a", b"x")).status
            except Exception:  # noqa: BLE001 - it is not there yet
                return 0

        while await status() != 202:
            await self.sleep(0.05)
        config.write_text(text.replace("http-publish", "http-publich"), "utf-8")
        seen = len(process.output)
        process.transport.signalProcess(signal.SIGHUP)
        await self.until(lambda: b"http-publich" in process.output[seen:], what="the reason in the log")
        self.assertEqual((await status(), process.is_alive), (202, True))
