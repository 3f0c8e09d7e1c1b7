"""``webhook`` routes with a real server and real sockets: each row of the table of answers, and what a target gets."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path

from msgspec import structs
from twisted.internet.ssl import PrivateCertificate

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes.webhook import factory
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.bridge.verify import Verifier
from pynats_twisted.testing.certificates import CertificateAuthority
from tests.integration.webhook_case import WebhookCase, quick
from tests.support.webhook_target import HANG, OK, Target, answer

PATIENT = 'retry = { schedule = ["20ms"], max_attempts = 50, jitter = 0 }\nbreaker = { after = 1000 }'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class AnswerTests(WebhookCase):
    """What each answer of a target does to a message."""

    async def test_success(self) -> None:
        """A message that the target takes with any 2xx is acked, and not sent again."""
        await self.start_streams()
        answers = [answer(200), answer(202), answer(204)]
        target = self.target(lambda request: answers.pop())
        await self.start_bridge(crm=(target, ""))
        await self.publish(b"one", b"two", b"three")
        await self.until(lambda: len(target.received) == 3)
        await self.finished()
        self.assertEqual(sorted(target.bodies), [b"one", b"three", b"two"])
        self.assertEqual(self.count("messages_out_total"), 3)
        self.assertEqual(self.count("acks_total", kind="ack"), 3)
        self.assertEqual(self.count("http_responses_total", code="2xx"), 3)

    async def test_passing_answers(self) -> None:
        """After 408, 425, 429 and every 5xx a message is sent again, with the same id, until the target takes it."""
        await self.start_streams()
        statuses = [408, 425, 429, 500, 501, 502, 503, 504, 599]
        answers = [*map(answer, statuses), OK]
        target = self.target(lambda request: answers.pop(0))
        await self.start_bridge(crm=(target, PATIENT))
        await self.publish(b"one")
        await self.until(lambda: not answers)
        await self.finished()
        self.assertEqual({request.id for request in target.received}, {"msg_ORDERS_1"})
        self.assertEqual([request.header("nats-delivered") for request in target.received], [str(n) for n in range(1, 11)])
        self.assertEqual(self.count("retries_total"), len(statuses))
        self.assertEqual(self.count("dlq_total"), 0)

    async def test_no_answer(self) -> None:
        """After a reset, silence, a refused connection, nonsense, or a broken answer that is not 2xx, the message is sent again."""
        await self.start_streams()
        broken = [
            None,
            HANG,
            b"+OK ready\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 400 X\r\nContent-Length: 70000\r\n\r\n",
            b"HTTP/1.1 500 X\r\nContent-Length: two\r\n\r\n",
            b"HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ]
        answers = [*broken, OK]
        target = self.target(lambda request: answers.pop(0))
        await self.start_bridge(crm=(target, PATIENT + '\ntimeout = "500ms"'))
        await target.close()
        await self.publish(b"one")
        await self.until(lambda: self.count("messages_failed_total", reason="connect"))
        target.listen()
        await self.until(lambda: not answers)
        await self.finished()
        self.assertEqual(self.count("messages_failed_total", reason="timeout"), 1)
        self.assertEqual(self.count("messages_failed_total", reason="bad-response"), 5)
        self.assertEqual(self.count("messages_failed_total", reason="reset"), 1)
        self.assertEqual(self.count("messages_out_total"), 1)
        self.assertEqual(self.count("dlq_total"), 0)

    async def test_success_that_breaks_off(self) -> None:
        """When the line that says 2xx has come the message is acked, whatever follows: too much, nonsense, nothing, or the end."""
        await self.start_streams()
        answers: list[bytes] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n" + bytes(70000),
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nand the end of the connection is the end",
        ]

        def respond(request: object) -> bytes:
            return answers[int(target.received[-1].body)]

        target = self.target(respond)
        await self.start_bridge(crm=(target, PATIENT + '\ntimeout = "1s"'))
        await self.publish(*(b"%d" % number for number in range(len(answers))))
        await self.until(lambda: len(target.received) == len(answers))
        # The last one ends with its connection, and says so by closing it.
        await self.until(lambda: [r for r in target.received if r.body == b"5"])
        next(r for r in target.received if r.body == b"5").connection.transport.loseConnection()
        await self.finished()
        self.assertEqual(len(target.received), len(answers))
        self.assertEqual(self.count("messages_out_total"), len(answers))
        self.assertEqual(self.count("retries_total"), 0)

    async def test_retry_after(self) -> None:
        """``Retry-After``, as seconds or as a date, is waited for when it is longer than the schedule's wait."""
        await self.start_streams()
        answers = [answer(429, "Retry-After: 1"), answer(503, "Retry-After: " + formatdate(self.reactor.seconds() + 3.0, usegmt=True)), OK]
        target = self.target(lambda request: answers.pop(0))
        await self.start_bridge(crm=(target, PATIENT))
        begun = int(self.reactor.seconds())
        await self.publish(b"one")
        await self.until(lambda: not answers)
        self.assertGreater(target.received[1].at - target.received[0].at, 0.99)
        self.assertGreaterEqual(target.received[2].at, begun + 2.9)

    async def test_permanent_answers(self) -> None:
        """A redirect, which is not followed, and what a target refuses for good are dead letters after one attempt."""
        await self.start_streams()
        statuses = [301, 302, 307, 400, 402, 405, 409, 413, 415, 418, 422]
        target = self.target(lambda request: answer(int(request.body), "Location: /elsewhere"))
        await self.start_bridge(crm=(target, PATIENT))
        await self.publish(*(b"%d" % status for status in statuses))
        await self.until(lambda: self.count("dlq_total") == len(statuses))
        await self.finished()
        self.assertEqual(len(target.received), len(statuses))
        self.assertEqual({request.line for request in target.received}, {"POST /hook HTTP/1.1"})
        self.assertEqual(self.count("acks_total", kind="term"), len(statuses))
        letters = await self.route().dead_letters(100)
        self.assertEqual(sorted(int(letter.data) for letter in letters), statuses)
        self.assertEqual({letter.attempts for letter in letters}, {1})

    async def test_deployment_answers(self) -> None:
        """401, 403 and 404 are what a deployment causes: five attempts; ``permanent_attempts`` says otherwise."""
        await self.start_streams()
        target = self.target(lambda request: answer(int(request.body)))
        await self.start_bridge(crm=(target, PATIENT), other=(target, PATIENT + "\npermanent_attempts = 2"))
        await self.publish(b"401", b"403", b"404", b"422")
        await self.until(lambda: self.count("dlq_total") == 4 and self.count("dlq_total", "other") == 4)
        attempts = {letter.data: letter.attempts for letter in await self.route().dead_letters(10)}
        self.assertEqual(attempts, {b"401": 5, b"403": 5, b"404": 5, b"422": 1})
        self.assertEqual({letter.attempts for letter in await self.route("other").dead_letters(10)}, {2})

    async def test_gone(self) -> None:
        """410 pauses the route and says so; nothing is lost, and resuming goes on."""
        await self.start_streams()
        responses = [answer(410)]
        target = self.target(lambda request: responses[0])
        await self.start_bridge(crm=(target, PATIENT + "\nconcurrency = 1"))
        await self.publish(b"one", b"two")
        await self.until(lambda: self.route().paused)
        self.assertIn("paused: the target answered 410", self.bridge.degraded()[0])
        self.assertEqual(self.bridge.problems(), [])
        await self.sleep(0.3)
        self.assertEqual(len(target.received), 1)
        responses[0] = OK
        self.route().resume()
        await self.until(lambda: len(target.received) == 3)
        await self.finished()
        self.assertEqual(self.bridge.degraded(), [])
        self.assertEqual(sorted(target.bodies[1:]), [b"one", b"two"])

    async def test_gone_to_dead_letters(self) -> None:
        """With ``on_gone = "dlq"`` 410 is about the message alone."""
        await self.start_streams()
        target = self.target(lambda request: answer(410) if request.body == b"one" else OK)
        await self.start_bridge(crm=(target, PATIENT + '\non_gone = "dlq"'))
        await self.publish(b"one", b"two")
        await self.until(lambda: len(target.received) == 2 and self.count("dlq_total"))
        self.assertFalse(self.route().paused)
        self.assertEqual([letter.data for letter in await self.route().dead_letters(5)], [b"one"])

    async def test_attempts_exhausted(self) -> None:
        """A message that fails as often as the schedule allows is a dead letter, with what is to be known, and is not sent again."""
        await self.start_streams()
        target = self.target(answer(500))
        await self.start_bridge(crm=(target, quick(attempts=3)))
        await self.publish(b"one", headers={"X-Kind": ["a", "b"], "Nats-Msg-Id": "order-7"}, subject="orders.eu.new")
        await self.until(lambda: self.count("dlq_total"))
        await self.finished()
        self.assertEqual(len(target.received), 3)
        stored = await (await self.js.stream("DLQ")).get_last_msg("dlq.ORDERS.crm.1")
        self.assertEqual(stored.data, b"one")
        headers = stored.headers
        self.assertEqual(headers["Nats-Bridge-Error"], "the target answered 500")
        self.assertEqual(headers["Nats-Bridge-Status"], "500")
        self.assertEqual(headers["Nats-Bridge-Attempts"], "3")
        self.assertEqual(headers["Nats-Bridge-Original-Subject"], "orders.eu.new")
        self.assertEqual(headers["Nats-Bridge-First-Time"][:4], stored.time.isoformat()[:4])
        self.assertEqual(headers.get_all("X-Kind"), ["a", "b"])
        self.assertEqual(headers["Original-Nats-Msg-Id"], "order-7")
        self.assertNotIn("Nats-Msg-Id", headers)
        (letter,) = await self.route().dead_letters(5)
        self.assertEqual((letter.subject, letter.error, letter.attempts), ("orders.eu.new", "the target answered 500", 3))
        self.assertEqual(dict(letter.headers), {"X-Kind": ["a", "b"], "Nats-Msg-Id": ["order-7"]})


class RequestTests(WebhookCase):
    """What a target gets."""

    async def test_request(self) -> None:
        """Method, path, fixed headers, the message's listed headers with all their values, and what says which message it is."""
        await self.start_streams()
        target = self.target()
        keys = 'method = "PUT"\nheaders = { Authorization = "Bearer t0p" }\nrequest_headers = ["content-type", "x-kind"]'
        await self.start_bridge(crm=(target.url + "?a=b", keys))
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {"Content-Type": "text/plain", "X-Kind": ["a", "b"], "X-Secret": "s", "traceparent": trace, "Nats-Msg-Id": "order-7"}
        await self.publish(b"one", headers=headers, subject="orders.größe")
        await self.until(lambda: target.received)
        (request,) = target.received
        self.assertEqual(request.line, "PUT /hook?a=b HTTP/1.1")
        self.assertEqual(request.header("host"), f"127.0.0.1:{target.number}")
        self.assertEqual(request.header("authorization"), "Bearer t0p")
        self.assertEqual(request.header("content-type"), "text/plain")
        self.assertEqual(request.headers["x-kind"], ["a", "b"])
        self.assertNotIn("x-secret", request.headers)
        self.assertNotIn("nats-msg-id", request.headers)
        self.assertEqual(request.header("traceparent"), trace)
        self.assertEqual(request.id, "order-7")
        self.assertEqual(request.header("nats-subject"), "orders.gr%C3%B6%C3%9Fe")
        self.assertEqual(request.header("nats-stream"), "ORDERS")
        self.assertEqual(request.header("nats-sequence"), "1")
        self.assertEqual(request.header("nats-bridge-path"), "edge")
        self.assertNotIn("webhook-signature", request.headers)

    async def test_signature(self) -> None:
        """A receiver that knows either secret finds the request signed by it, over id, time and body."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, f'sign = {{ secrets = ["{SECRET}", "{OTHER_SECRET}"] }}'))
        await self.publish(b'{"a": 1}')
        await self.until(lambda: target.received)
        (request,) = target.received
        headers = {name.encode(): [value.encode() for value in values] for name, values in request.headers.items()}
        for secret in (SECRET, OTHER_SECRET):
            Verifier("standard-webhooks", [secret], self.reactor.seconds).verify(headers, request.body)

    async def test_connections_are_reused(self) -> None:
        """One connection serves many messages; a target that closes it after each gets each message once all the same."""
        await self.start_streams()
        target = self.target()
        closing = self.target(answer(200, "Connection: close"))
        await self.start_bridge(crm=(target, "concurrency = 1"), other=(closing, ""))
        await self.publish(*(b"%d" % number for number in range(50)))
        await self.until(lambda: len(target.received) == 50 and len(closing.received) == 50)
        self.assertEqual(target.connections, 1)
        self.assertEqual(closing.connections, 50)
        self.assertEqual(len(set(closing.bodies)), 50)

    async def test_tls(self) -> None:
        """An ``https`` target has to show a certificate for its name by the authority that is trusted; another one gets nothing."""
        await self.start_streams()
        folder = Path(self.mktemp())
        folder.mkdir()
        authority, stranger = CertificateAuthority(), CertificateAuthority("another")
        authority.write(folder)
        ca = authority.write(folder, "trusted")
        targets: list[Target] = []
        for name, issuer in (("good", authority), ("bad", stranger)):
            files = issuer.issue_server().write(folder, name)
            pem = Path(files.certificate).read_bytes() + b"\n" + Path(files.key).read_bytes()
            target = Target(self.reactor).listen(PrivateCertificate.loadPEM(pem).options())
            self.addCleanup(target.close)
            targets.append(target)
        good, bad = targets
        keys = f'tls = {{ ca = "{Path(ca).resolve()}" }}\n{PATIENT}'
        await self.start_bridge(
            crm=(f"https://localhost:{good.number}/", keys), other=(f"https://localhost:{bad.number}/", keys + '\ntimeout = "2s"')
        )
        await self.publish(b"one")
        await self.until(lambda: good.received)
        await self.until(lambda: self.count("messages_failed_total", "other", reason="tls"))
        self.assertEqual(bad.received, [])

    async def test_private_addresses(self) -> None:
        """A name that leads to the machine itself is not connected to unless ``allow_private`` allows it."""
        await self.start_streams()
        target = self.target()
        factories = [factory]
        config = load_config(self.text(crm=(f"http://localhost:{target.number}/", PATIENT)), "bridge.toml", factories)
        # A configuration that names the machine itself is refused; this one stands for a name whose address has changed since.
        config.routes["crm"] = structs.replace(config.routes["crm"], allow_private=False)
        self.bridge = BridgeService(self.reactor, config, factories)
        self.bridge.startService()
        self.addCleanup(self.bridge.stopService)
        await self.publish(b"one")
        await self.until(lambda: self.count("messages_failed_total", reason="private-address") > 2)
        self.assertEqual(target.connections, 0)

    async def test_rate(self) -> None:
        """``rate`` bounds how many requests are sent; nothing is lost by it."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, 'rate = { limit = "20/s", burst = 1 }'))
        await self.publish(*(b"%d" % number for number in range(11)))
        await self.until(lambda: len(target.received) == 11)
        self.assertGreater(target.received[-1].at - target.received[0].at, 0.45)

    async def test_long_requests(self) -> None:
        """A message whose request takes longer than ``ack_wait`` is not delivered a second time meanwhile."""
        await self.start_streams()
        target = self.target(HANG)
        await self.start_bridge(crm=(target, 'ack_wait = "500ms"'))
        await self.publish(b"one")
        await self.until(lambda: target.received)
        await self.sleep(2.0)
        target.received[0].connection.transport.write(OK)
        await self.finished()
        self.assertEqual(len(target.received), 1)
        self.assertGreater(self.count("acks_total", kind="wpi"), 3)
        self.assertEqual((await self.info()).num_redelivered, 0)

    async def test_confirmed_acks(self) -> None:
        """With ``ack = "confirmed"`` each ack is taken by the server before the message counts as done."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, 'ack = "confirmed"'))
        await self.publish(b"one", b"two")
        await self.until(lambda: self.count("messages_out_total") == 2)
        info = await self.info()
        self.assertEqual((info.num_ack_pending, info.ack_floor.stream_seq), (0, 2))
