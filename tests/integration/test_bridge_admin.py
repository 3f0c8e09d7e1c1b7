"""The admin endpoint over real sockets, with real routes and a real server."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers as HTTPHeaders

from pynats_twisted.bridge.config import read_config
from pynats_twisted.bridge.reloader import Reloader
from pynats_twisted.bridge.service import BridgeService
from tests.integration.webhook_case import WebhookCase, quick
from tests.support.webhook_target import OK, Received, answer

TOKEN = "t0ken"

MORE = """
[listen.public]
endpoint = "tcp:0:interface=127.0.0.1"
[routes.ingest]
type = "http-publish"
listen = "public"
path = "/in/{topic}"
subject = "in.{topic}"
confirm = "server"
"""


class Answered(NamedTuple):
    """A response."""

    status: int
    json: Any


class Events(Protocol):
    """Collects the events of a stream."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)

    def of(self, kind: str) -> list[Any]:
        """The events of a kind that came so far."""
        blocks = [block.split("\n") for block in self.data.decode().split("\n\n")]
        return [json.loads(block[1][6:]) for block in blocks if block[0] == f"event: {kind}" and len(block) == 2]


class AdminTests(WebhookCase):
    """The endpoint."""

    async def begin(self, answers: Any = OK) -> None:
        """A bridge with a webhook and an HTTP route, made of a file."""
        await self.start_streams()
        self.hook = self.target(answers)
        self.file = Path(self.mktemp()).resolve()
        self.text_of_file = self.text(crm=(self.hook, quick())).replace("[admin]", f'[admin]\ntoken = "{TOKEN}"') + MORE
        self.file.write_text(self.text_of_file, "utf-8")
        self.bridge = bridge = BridgeService(self.reactor, read_config(str(self.file)))
        bridge.reloader = Reloader(bridge, str(self.file))
        bridge.startService()
        self.addCleanup(bridge.stopService)
        await self.until(lambda: not bridge.problems(), what="the bridge to be ready")

    def url(self, path: str) -> bytes:
        admin: Any = self.bridge.admin
        return f"http://127.0.0.1:{admin.port.getHost().port}{path}".encode()

    async def ask(self, path: str, body: Any = None, token: str = TOKEN) -> Answered:
        """A request: with a body, a POST."""
        headers = HTTPHeaders({"Authorization": [f"Bearer {token}"]} if token else {})
        method, producer = (b"GET", None) if body is None else (b"POST", FileBodyProducer(BytesIO(json.dumps(body).encode())))
        response = await Agent(self.reactor).request(method, self.url(path), headers, producer)
        return Answered(response.code, json.loads(await readBody(response)))

    async def stream(self, path: str) -> Events:
        """An event stream; it is closed after the test."""
        headers = HTTPHeaders({"Authorization": [f"Bearer {TOKEN}"]})
        response = await Agent(self.reactor).request(b"GET", self.url(path), headers)
        self.assertEqual(response.code, 200)
        events = Events()
        response.deliverBody(events)

        async def close() -> None:
            if events.transport is not None:
                events.transport.loseConnection()
            await events.ended

        self.addCleanup(close)
        return events

    async def post(self, topic: str) -> int:
        """The status of a request to the route ingest."""
        port: Any = self.bridge.listeners["public"].port
        response = await Agent(self.reactor).request(
            b"POST", f"http://127.0.0.1:{port.getHost().port}/in/{topic}".encode(), None, FileBodyProducer(BytesIO(b"x"))
        )
        await readBody(response)
        return int(response.code)

    async def test_dead_letters(self) -> None:
        """A dead letter is listed with its contents, replayed with its id once the target takes it, and gone then."""
        is_refusing = True

        def answers(request: Received) -> bytes:
            return answer(422) if is_refusing else OK

        await self.begin(answers)
        await self.publish(b"one", b"two")
        listed = Answered(0, {"dead_letters": []})
        while len(listed.json["dead_letters"]) < 2:
            await self.sleep(0.02)
            listed = await self.ask("/routes/crm/dlq")
        letters = {letter["preview"]: letter for letter in listed.json["dead_letters"]}
        self.assertEqual(set(letters), {"one", "two"})
        self.assertEqual((letters["one"]["subject"], letters["one"]["attempts"]), ("orders.new", 1))
        self.assertIn("422", letters["one"]["error"])
        self.assertNotIn("preview", (await self.ask("/routes/crm/dlq", token="")).json["dead_letters"][0])

        refused = await self.ask("/routes/crm/dlq/replay", {"seqs": [letters["one"]["seq"]]})
        self.assertEqual((refused.status, refused.json["replayed"]), (200, 0), "the target does not take it yet")
        is_refusing = False
        replayed = await self.ask("/routes/crm/dlq/replay", {"seqs": [letters["one"]["seq"]]})
        self.assertEqual(replayed.json["replayed"], 1)
        self.assertEqual(self.hook.received[-1].body, b"one")
        first = next(request for request in self.hook.received if request.body == b"one")
        self.assertEqual(self.hook.received[-1].id, first.id)
        self.assertEqual([letter["preview"] for letter in (await self.ask("/routes/crm/dlq")).json["dead_letters"]], ["two"])
        self.assertEqual((await self.ask("/routes/crm/dlq/delete", {"all": True})).json["deleted"], 1)
        self.assertEqual((await self.ask("/routes/crm/dlq")).json["dead_letters"], [])
        errors = (await self.ask("/routes/crm")).json["errors"]
        self.assertTrue(any("422" in error["cause"] and error["hint"] for error in errors), errors)

    async def test_pause(self) -> None:
        """A paused webhook takes nothing and loses nothing; a paused HTTP route answers 503; both go on when they are resumed."""
        await self.begin()
        for name in ("crm", "ingest"):
            self.assertEqual((await self.ask(f"/routes/{name}/pause", {})).json["state"], "paused")
        await self.publish(b"one")
        self.assertEqual(await self.post("a"), 503)
        self.assertEqual((await self.ask("/readyz")).json["status"], "degraded")
        await self.sleep(0.3)
        self.assertEqual(self.hook.bodies, [])
        for name in ("crm", "ingest"):
            self.assertEqual((await self.ask(f"/routes/{name}/resume", {})).json["state"], "running")
        await self.until(lambda: self.hook.bodies == [b"one"], what="the message")
        self.assertEqual(await self.post("a"), 202)

    async def test_drain(self) -> None:
        """A drain is answered when what was in flight has ended; resumed, the route goes on with what came meanwhile."""
        requests: list[Received] = []

        def hold(request: Received) -> bytes:
            requests.append(request)
            return b"" if len(requests) == 1 else OK

        await self.begin(hold)
        await self.publish(b"one")
        await self.until(lambda: requests, what="the delivery")
        drained = Deferred.fromCoroutine(self.ask("/routes/crm/drain", {}))
        while (await self.ask("/routes/crm")).json["state"] != "draining":
            await self.sleep(0.02)
        await self.publish(b"two")
        self.assertNoResult(drained)
        requests[0].connection.transport.write(OK)
        self.assertEqual((await drained).json, {"route": "crm", "state": "drained", "complete": True})
        self.assertEqual(self.hook.bodies, [b"one"])
        await self.ask("/routes/crm/resume", {})
        await self.until(lambda: self.hook.bodies == [b"one", b"two"], what="what came meanwhile")

    async def test_streams(self) -> None:
        """The dashboard's stream tells of traffic, and the tap of each hop of a message."""
        await self.begin()
        events, tap = await self.stream("/events"), await self.stream("/routes/crm/tap?rate=100")
        await self.until(lambda: tap.of("tap"), what="the tap")
        await self.publish(b"hello")
        await self.until(lambda: [hop for hop in tap.of("hop") if hop["step"] == "delivered"], what="the delivery")
        hop = next(hop for hop in tap.of("hop") if hop["step"] == "delivered")
        self.assertEqual((hop["subject"], hop["preview"], hop["details"]["status"], hop["details"]["seq"]), ("orders.new", "hello", 200, 1))
        await self.until(lambda: [one for one in events.of("numbers") if one["routes"]["crm"].get("out") == 1], what="the number")
        self.assertEqual([route["name"] for route in events.of("bridge")[0]["routes"]], ["crm", "ingest"])
        await self.ask("/routes/ingest/pause", {})
        await self.until(lambda: events.of("bridge")[-1]["routes"][1]["state"] == "paused", what="the state")

    async def test_stop(self) -> None:
        """Open streams do not hold up the end of the bridge."""
        await self.begin()
        events, tap = await self.stream("/events"), await self.stream("/routes/crm/tap")
        await self.until(lambda: events.data and tap.data, what="both streams")
        await self.bridge.stopService()
        await events.ended
        await tap.ended

    async def test_reload(self) -> None:
        """A reload over HTTP changes what differs, while the stream of the dashboard goes on and shows it."""
        await self.begin()
        events = await self.stream("/events")
        await self.until(lambda: events.of("bridge"), what="the first event")
        self.file.write_text(self.text_of_file.replace('path = "/in/{topic}"', 'path = "/into/{topic}"'), "utf-8")
        await self.until(lambda: events.of("bridge")[-1]["disk"]["differs"], what="the difference")
        self.assertEqual((await self.ask("/reload", {}, token="wrong")).status, 403)
        report = await self.ask("/reload", {})
        self.assertEqual((report.json["changed"], report.json["unchanged"]), (["ingest"], ["crm"]))
        await self.until(lambda: not events.of("bridge")[-1]["disk"]["differs"], what="the end of the difference")
        self.assertIn("/into/", events.of("bridge")[-1]["routes"][1]["source"])
        self.assertEqual(await self.post("a"), 404)
