"""``http-publish`` with ``confirm = "jetstream"``, with a real server: each row of its table, and every scheme of signatures."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import Msg, NatsClient
from pynats_twisted.jetstream.api import DiscardPolicy, StorageType, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.testing import ServerProcess
from tests.integration.bridge_http_case import Answer, BridgeHTTPCase

ROUTE = """
[routes.{name}]
type = "http-publish"
listen = "public"
path = "/{name}/{{source}}"
subject = "{name}.{{source}}"
"""


def route(keys: str = "", name: str = "hooks") -> str:
    """A route that publishes what comes to ``/hooks/SOURCE`` to ``hooks.SOURCE``."""
    return ROUTE.format(name=name) + keys + "\n"


class StreamCase(BridgeHTTPCase):
    """A server with JetStream, a stream HOOKS, and a bridge."""

    nc: NatsClient
    js: JetStreamContext
    stream: Stream

    async def start_with_stream(self, keys: str = "", server: ServerProcess | None = None, **stream: Any) -> None:
        self.server = server if server is not None else await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        self.js = self.nc.jetstream()
        config: dict[str, Any] = {"name": "HOOKS", "subjects": ["hooks.>"], **stream}
        self.stream = await self.js.create_stream(StreamConfig(**config))
        await self.start_bridge(route(keys), self.server)

    async def start_with_answers(self, keys: str = "") -> list[Msg]:
        """A server without a stream, and a list of what is published instead: the test answers as a stream would."""
        self.server = await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        seen: list[Msg] = []
        await self.nc.subscribe("hooks.>", seen.append)
        await self.start_bridge(route(keys), self.server)
        return seen

    async def stored(self) -> list[bytes]:
        """The payloads in the stream, in order."""
        state = (await self.stream.info()).state
        return [(await self.stream.get_msg(seq)).data for seq in range(state.first_seq, state.last_seq + 1) if state.messages]

    async def post(self, body: bytes = b"x", path: str = "/hooks/a", headers: Mapping[str, str | list[str]] | None = None) -> Answer:
        return await self.http("POST", path, body, headers)

    def assert_problem(self, answer: Answer, status: int, kind: str) -> None:
        """The answer is that problem, which tells nothing of the inside, and Retry-After goes with 503."""
        self.assertEqual((answer.status, answer.kind), (status, kind), answer)
        self.assertEqual(answer.headers.get("retry-after"), ["1"] if status == 503 else None)
        for inside in (b"hooks.", b"HOOKS", b"127.0.0.1", b"err_code"):
            self.assertNotIn(inside, answer.body)


class StoredTests(StreamCase):
    """What is stored is confirmed, and nothing else."""

    async def test_stored_message(self) -> None:
        """202 with stream and sequence says that the stream has the message, with its listed headers and no other."""
        await self.start_with_stream('dedupe = "header:x-id"')
        evil = {"Nats-Rollup": "all", "Nats-TTL": "1s", "Nats-Expected-Last-Sequence": "99", "Nats-Msg-Id": "evil", "Cookie": "c"}
        for number in (1, 2):
            answer = await self.post(b"\x00%d" % number, headers={"X-Id": str(number), "Content-Type": "a/b", **evil})
            self.assertEqual((answer.status, json.loads(answer.body)), (202, {"stream": "HOOKS", "seq": number, "duplicate": False}))
        self.assertEqual(await self.stored(), [b"\x001", b"\x002"])
        headers = (await self.stream.get_msg(2)).headers
        self.assertEqual(dict(headers), {"Content-Type": "a/b", "Nats-Msg-Id": "hooks:2", "Nats-Bridge-Path": "edge"})

    async def test_duplicate(self) -> None:
        """A message that the stream has is 200, with the sequence of the first one; it is stored once."""
        await self.start_with_stream('dedupe = "header:x-id"\nok_status = 201')
        answers = [await self.post(headers={"X-Id": "42"}) for _ in range(3)]
        self.assertEqual([answer.status for answer in answers], [201, 200, 200])
        self.assertEqual([json.loads(answer.body)["duplicate"] for answer in answers], [False, True, True])
        self.assertEqual({json.loads(answer.body)["seq"] for answer in answers}, {1})
        self.assertEqual(await self.stored(), [b"x"])
        self.assertEqual(self.count("duplicates_total", route="hooks", type="http-publish"), 2)

    async def test_batch(self) -> None:
        """The lines of a batch are stored in order, each once however often the batch is sent; one that is stored in part says so."""
        await self.start_with_stream('batch = "ndjson"\ndedupe = "header:x-id"', max_msgs=5, discard=DiscardPolicy.NEW)
        for status, duplicates in ((202, 0), (200, 3)):
            answer = await self.post(b"1\n2\n3\n", headers={"X-Id": "a"})
            content = {"stream": "HOOKS", "seq": 3, "duplicate": bool(duplicates), "messages": 3, "duplicates": duplicates}
            self.assertEqual((answer.status, json.loads(answer.body)), (status, content))
        answer = await self.post(b"4\n5\n6\n", headers={"X-Id": "b"})
        self.assert_problem(answer, 507, "stream-full")
        self.assertEqual(answer.problem["published"], 2)
        await self.stream.purge(keep=3)
        answer = await self.post(b"4\n5\n6\n", headers={"X-Id": "b"})
        self.assertEqual((answer.status, json.loads(answer.body)["duplicates"]), (202, 2))
        self.assertEqual(await self.stored(), [b"3", b"4", b"5", b"6"])

    async def test_ack_is_late(self) -> None:
        """A message whose ack does not come is sent a second time with the same id; the ack of that one is as good."""
        seen = await self.start_with_answers('timeout = "20s"')
        asked = Deferred.fromCoroutine(self.post(b"once"))
        await self.until(lambda: len(seen) == 2)
        self.assertEqual({msg.headers["Nats-Msg-Id"] for msg in seen}, {seen[0].headers["Nats-Msg-Id"]})
        await seen[1].respond(b'{"stream":"HOOKS", "seq":9, "duplicate":true}')
        answer = await asked
        self.assertEqual((answer.status, json.loads(answer.body)), (202, {"stream": "HOOKS", "seq": 9, "duplicate": False}))

    async def test_outage_of_the_server(self) -> None:
        """A server that is killed while messages are under way loses none that was confirmed, and none is stored twice."""
        await self.start_with_stream('dedupe = "header:x-id"\ntimeout = "20s"')
        confirmed: list[int] = []
        stop = False

        async def sender(number: int) -> None:
            while not stop:
                answer = await self.post(b"%d" % number, headers={"X-Id": str(number)})
                if answer.status in (200, 202):
                    confirmed.append(number)
                    number += 4
                else:
                    await self.sleep(0.05)

        senders = [Deferred.fromCoroutine(sender(first)) for first in range(4)]
        for _ in range(3):
            so_far = len(confirmed)
            await self.until(lambda so_far=so_far: len(confirmed) >= so_far + 40)
            await self.server.kill()
            await self.server.start()
        so_far = len(confirmed)
        await self.until(lambda: len(confirmed) >= so_far + 40)
        stop = True
        for one in senders:
            await one
        await self.until(lambda: self.nc.is_connected)
        stored = [int(payload) for payload in await self.stored()]
        self.assertEqual((set(confirmed) - set(stored), len(stored) - len(set(stored))), (set(), 0))


class TableTests(StreamCase):
    """Everything else that a sender is told."""

    async def test_no_stream(self) -> None:
        """No stream has the subject, or JetStream is off: 503, soon."""
        for jetstream in (True, False):
            server = await self.start_server(jetstream=jetstream)
            await self.start_bridge(route('timeout = "20s"'), server)
            self.assert_problem(await self.post(), 503, "no-stream")

    async def test_disconnected(self) -> None:
        """NATS is not there: 503 at once, and nothing is kept for later."""
        await self.start_with_stream()
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        self.assert_problem(await self.post(b"once"), 503, "nats-disconnected")
        await self.server.start()
        await self.until(lambda: not self.bridge.problems() and self.nc.is_connected)
        self.assertEqual((await self.post(b"twice")).status, 202)
        self.assertEqual(await self.stored(), [b"twice"])

    async def test_no_ack(self) -> None:
        """No ack in ``timeout``: 504, after two tries with the same id. Meanwhile a request beyond ``max_in_flight`` is 503."""
        seen = await self.start_with_answers("max_in_flight = 1")
        asked = Deferred.fromCoroutine(self.post())
        await self.until(lambda: seen)
        self.assert_problem(await self.post(), 503, "overloaded")
        self.assert_problem(await asked, 504, "confirm-timeout")
        self.assertEqual((len(seen), len({msg.headers["Nats-Msg-Id"] for msg in seen})), (2, 1))

    async def test_stream_full(self) -> None:
        """A stream that is full and keeps what it has: 507, by messages, by bytes, and by messages of a subject."""
        await self.start_with_stream(max_msgs=1, discard=DiscardPolicy.NEW)
        self.assertEqual((await self.post()).status, 202)
        self.assert_problem(await self.post(), 507, "stream-full")
        for limits in ({"max_bytes": 500}, {"max_msgs_per_subject": 1, "discard_new_per_subject": True}):
            await self.js.delete_stream("HOOKS")
            config: dict[str, Any] = {"name": "HOOKS", "subjects": ["hooks.>"], "discard": DiscardPolicy.NEW, **limits}
            self.stream = await self.js.create_stream(StreamConfig(**config))
            statuses = [(await self.post(b"x" * 300)).status for _ in range(2)]
            self.assertEqual(statuses, [202, 507], limits)

    async def test_no_resources(self) -> None:
        """The account has no room left: 507."""
        accounts = {"A": {"jetstream": {"max_mem": 2000, "max_file": 1000000}, "users": [{"user": "a", "password": "a"}]}}
        server = await self.start_server({"accounts": accounts}, jetstream=True)
        nc = await self.connect(server, user="a", password="a")
        await nc.jetstream().create_stream(StreamConfig(name="HOOKS", subjects=["hooks.>"], storage=StorageType.MEMORY))
        await self.start_bridge(route(), server, nats='user = "a"\npassword = "a"')
        answers = [await self.post(b"x" * 900) for _ in range(4)]
        self.assertEqual(answers[0].status, 202)
        self.assert_problem(answers[-1], 507, "no-resources")

    async def test_too_large(self) -> None:
        """A message that the stream finds too large: 413; and one that the route finds too large, before it is read."""
        await self.start_with_stream("max_body = 2000", max_msg_size=1000)
        self.assert_problem(await self.post(b"x" * 1500), 413, "nats-max-payload")
        self.assert_problem(await self.post(b"x" * 2001), 413, "body-too-large")
        self.assertEqual((await self.post(b"x" * 500)).status, 202)

    async def test_not_as_expected(self) -> None:
        """409 when the stream has gone on since, with the number that it is at; a sender that has that number goes on."""
        await self.start_with_stream('expected = { last_subject_seq = "header:if-match" }')
        first = await self.post(b"1", headers={"If-Match": '"0"'})
        seq = json.loads(first.body)["seq"]
        await self.post(b"other", "/hooks/b", {"If-Match": "0"})
        for wrong in ("0", "7"):
            answer = await self.post(b"2", headers={"If-Match": wrong})
            self.assert_problem(answer, 409, "not-as-expected")
            self.assertEqual(answer.problem["last_seq"], seq)
        self.assertEqual((await self.post(b"2", headers={"If-Match": f'"{seq}"'})).status, 202)
        self.assert_problem(await self.post(b"3", headers={"If-Match": "x"}), 400, "bad-value")
        self.assert_problem(await self.post(b"3"), 400, "bad-value")
        self.assertEqual(await self.stored(), [b"1", b"other", b"2"])

    async def test_not_after_what_was_expected(self) -> None:
        """The same for the sequence of the stream and for the id of its last message."""
        await self.start_with_stream('dedupe = "header:x-id"\nexpected = { last_msg_id = "header:x-last", last_seq = "query:at" }')
        await self.js.publish("hooks.z", b"0", msg_id="hooks:0")
        self.assertEqual((await self.post(b"1", "/hooks/a?at=1", {"X-Id": "1", "X-Last": "0"})).status, 202)
        self.assert_problem(await self.post(b"2", "/hooks/a?at=2", {"X-Id": "2", "X-Last": "0"}), 409, "not-as-expected")
        self.assert_problem(await self.post(b"2", "/hooks/a?at=1", {"X-Id": "2", "X-Last": "1"}), 409, "not-as-expected")
        self.assertEqual((await self.post(b"2", "/hooks/a?at=2", {"X-Id": "2", "X-Last": "1"})).status, 202)

    async def test_refused(self) -> None:
        """Another stream than the expected one, and a sealed one: 502."""
        await self.start_with_stream('expected = { stream = "OTHER" }')
        self.assert_problem(await self.post(), 502, "stream-refused")
        self.assertEqual((await self.stream.info()).state.messages, 0)

    async def test_denied(self) -> None:
        """A subject that the bridge may not publish to: 502, without waiting for the timeout."""
        users = [{"user": "bridge", "password": "pw", "permissions": {"publish": ["hooks.ok"], "subscribe": ["_INBOX.>"]}}]
        server = await self.start_server({"authorization": {"users": [*users, {"user": "root", "password": "pw"}]}}, jetstream=True)
        nc = await self.connect(server, user="root", password="pw")
        await nc.jetstream().create_stream(StreamConfig(name="HOOKS", subjects=["hooks.>"]))
        await self.start_bridge(route('timeout = "60s"'), server, nats='user = "bridge"\npassword = "pw"')
        self.assert_problem(await self.post(path="/hooks/no"), 502, "nats-permission")
        self.assertEqual((await self.post(path="/hooks/ok")).status, 202)

    async def test_acks_are_denied(self) -> None:
        """A bridge that may not hear the acks says that it does not know, and tells its operator why; it does so each time."""
        users = [{"user": "bridge", "password": "pw", "permissions": {"publish": ["hooks.>"], "subscribe": ["none"]}}]
        server = await self.start_server({"authorization": {"users": users}}, jetstream=True)
        await self.start_bridge(route('timeout = "60s"'), server, nats='user = "bridge"\npassword = "pw"')
        for _ in range(2):
            self.assert_problem(await self.post(), 503, "not-confirmed")
        (error, *_) = self.bridge.context.activity("hooks").errors
        self.assertIn("subscribe to its inbox", error.hint)

    async def test_errors_of_a_cluster(self) -> None:
        """What a stream says that has no leader, no memory or too much to do: 503 to try again, 507; anything else 502."""
        seen = await self.start_with_answers('dedupe = "none"')
        for code, number, status, kind in (
            (503, 10008, 503, "stream-unavailable"),
            (503, 10009, 503, "stream-unavailable"),
            (429, 10167, 503, "stream-unavailable"),
            (503, 10023, 507, "no-resources"),
            (500, 10028, 507, "no-resources"),
            (500, 10047, 507, "no-resources"),
            (503, 10077, 503, "stream-unavailable"),
            (400, 10109, 502, "stream-refused"),
            (500, 19999, 502, "stream-refused"),
        ):
            asked = Deferred.fromCoroutine(self.post())
            await self.until(lambda: seen)
            error = {"code": code, "err_code": number, "description": "hooks.a of HOOKS"}
            await seen.pop().respond(json.dumps({"error": error, "stream": "HOOKS", "seq": 0}).encode())
            self.assert_problem(await asked, status, kind)

    async def test_answer_that_is_none(self) -> None:
        """A service that answers where a stream was meant: 502, and nothing counts as stored."""
        seen = await self.start_with_answers('dedupe = "none"')
        for data in (b"", b"OK", b"{}", b'{"stream":"HOOKS"}', b"[1]"):
            asked = Deferred.fromCoroutine(self.post())
            await self.until(lambda: seen)
            await seen.pop().respond(data)
            self.assert_problem(await asked, 502, "nats-error")


class ClusterTests(StreamCase):
    """A stream on three servers."""

    async def test_without_a_leader(self) -> None:
        """While too few servers are there to elect a leader, senders get 503 or 504 and nothing is confirmed; when there are again, one
        that has tried all the time finds its message stored once.
        """
        cluster = await self.start_cluster(3, jetstream=True)
        self.nc = await self.connect(cluster)
        self.js = self.nc.jetstream(timeout=20.0)
        self.stream = await self.js.create_stream(StreamConfig(name="HOOKS", subjects=["hooks.>"], replicas=3))
        servers: Any = SimpleNamespace(url=",".join(cluster.urls))
        await self.start_bridge(route('dedupe = "header:x-id"'), servers)
        while (await self.post(b"before", headers={"X-Id": "1"})).status not in (200, 202):
            await self.sleep(0.1)
        down = cluster.servers[:2]
        for server in down:
            await server.kill()
        statuses: list[int] = []
        while len(statuses) < 4:
            answer = await self.post(b"during", headers={"X-Id": "2"})
            statuses.append(answer.status)
            self.assertIn(answer.kind, ("no-stream", "stream-unavailable", "not-confirmed", "confirm-timeout", "nats-disconnected"))
        for server in down:
            await server.start()
        while statuses[-1] not in (200, 202):
            statuses.append((await self.post(b"during", headers={"X-Id": "2"})).status)
        self.assertEqual(set(statuses[:-1]) - {503, 504}, set())
        await self.until(lambda: self.nc.is_connected)
        self.assertEqual(await self.stored(), [b"before", b"during"])


class DryRunTests(StreamCase):
    """What is found before a route is started."""

    async def test_stream_that_does_not_fit(self) -> None:
        """A stream without acks, another one than the expected, and one that forgets ids too soon are told; a good one is not."""
        await self.start_with_stream('expected = { stream = "OTHER" }\ntimeout = "5s"', no_ack=True, duplicate_window=1)
        publish: Any = self.bridge.routes["hooks"]
        found = await publish.dry_run()
        self.assertEqual([word in text for text, word in zip(found, ("no_ack", "OTHER", "stored twice"), strict=True)], [True] * 3)
        await self.js.delete_stream("HOOKS")
        self.assertEqual(await publish.dry_run(), [])
        self.stream = await self.js.create_stream(StreamConfig(name="OTHER", subjects=["hooks.>"]))
        self.assertEqual(await publish.dry_run(), [])


class SignatureTests(StreamCase):
    """Each scheme: what is signed is stored, what is not is 401 without a detail."""

    secret = b"c2VjcmV0LXNlY3JldC1zZWNyZXQ="

    def signed(self, scheme: str, body: bytes, at: int, secret: bytes | None = None) -> dict[str, str]:
        """The headers of a request that is signed at a time."""
        key = self.secret if secret is None else secret

        def digest(data: bytes, algorithm: str = "sha256", key: bytes = key) -> bytes:
            return hmac.new(key, data, algorithm).digest()

        time = str(at)
        if scheme == "github":
            return {"X-Hub-Signature-256": "sha256=" + digest(body).hex()}
        if scheme == "stripe":
            return {"Stripe-Signature": f"t={time},v1={digest(time.encode() + b'.' + body).hex()},v0=00"}
        if scheme == "standard-webhooks":
            signature = base64.b64encode(digest(b"msg_1." + time.encode() + b"." + body, key=base64.b64decode(key))).decode()
            return {"webhook-id": "msg_1", "webhook-timestamp": time, "webhook-signature": f"v1a,AA== v1,{signature}"}
        if scheme == "slack":
            signature = "v0=" + digest(b"v0:" + time.encode() + b":" + body).hex()
            return {"X-Slack-Request-Timestamp": time, "X-Slack-Signature": signature}
        if scheme == "gitlab":
            return {"X-Gitlab-Token": key.decode()}
        return {"X-Sig": "s1 " + base64.b64encode(digest(body, "sha512")).decode()}

    async def start_schemes(self) -> None:
        """A route for each scheme."""
        self.schemes = ("github", "stripe", "standard-webhooks", "slack", "gitlab", "hmac")
        text = ""
        for scheme in self.schemes:
            more = ', header = "X-Sig", prefix = "s1 ", algorithm = "sha512", encoding = "base64"' if scheme == "hmac" else ""
            secrets = f'secrets = ["{base64.b64encode(b"old").decode()}", "{self.secret.decode()}"]'
            text += route(f'verify = {{ scheme = "{scheme}", {secrets}{more} }}', scheme)
        self.server = await self.start_server(jetstream=True)
        nc = await self.connect(self.server)
        self.stream = await nc.jetstream().create_stream(StreamConfig(name="ALL", subjects=[f"{scheme}.>" for scheme in self.schemes]))
        await self.start_bridge(text, self.server)

    async def test_signed_and_not(self) -> None:
        """Signed by any of the secrets: stored once, however often it is replayed. Unsigned, signed by another, of another body or too old:
        401 without a reason, and nothing is stored."""
        await self.start_schemes()
        body = b'{"n": 1}  \r\n\xff'
        now = int(self.reactor.seconds())
        for number, scheme in enumerate(self.schemes, start=1):
            path = f"/{scheme}/a"
            good = self.signed(scheme, body, now)
            statuses = [(await self.post(body, path, good)).status for _ in range(2)]
            self.assertEqual(statuses, [202, 200], scheme)
            other = self.signed(scheme, body, now, base64.b64encode(b"other"))
            bad: list[tuple[bytes, dict[str, Any]]] = [(body, {}), (body, other), (body, {name: [v, v] for name, v in good.items()})]
            if scheme != "gitlab":
                # A token is no signature: it does not cover the body.
                bad.append((body[:-1], good))
            if scheme in ("stripe", "standard-webhooks", "slack"):
                bad += [(body, self.signed(scheme, body, now - 400)), (body, self.signed(scheme, body, now + 400))]
            for wrong_body, headers in bad:
                answer = await self.post(wrong_body, path, headers)
                self.assertEqual((answer.status, answer.kind, "detail" in answer.problem), (401, "bad-signature", False), (scheme, headers))
            self.assertEqual((await self.stream.info()).state.messages, number, scheme)
