"""``webhook`` routes when something is down: targets, dead letters, consumers, the NATS server, the bridge itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.web.client import Agent, readBody
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.interfaces import IDeadLetters, IDegradable, IDescribed, IPausable, IRoute
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from tests.integration.webhook_case import WebhookCase, quick
from tests.support.webhook_target import HANG, OK, Received, answer

LONG = 'retry = { schedule = ["20ms"], max_attempts = 5, jitter = 0 }\nconcurrency = 8\nbreaker = { after = 10, cooldown = "400ms" }'


class BreakerTests(WebhookCase):
    async def test_dead_beside_healthy(self) -> None:
        """A target that is down costs the other one nothing, and its own messages no attempt; it has its backlog soon after it is back,
        long before the cooldown is over.
        """
        await self.start_streams()
        healthy, dead = self.target(), self.target()
        await dead.close()
        keys = LONG.replace("400ms", "30s")
        await self.start_bridge(healthy=(healthy, keys), dead=(dead, keys))
        total = 500
        await self.publish(*(b"%d" % number for number in range(total)))
        await self.until(lambda: len(healthy.received) == total, what="the healthy target to have all")
        await self.until(lambda: self.count("breaker_state", "dead") == 2)
        self.assertEqual(self.bridge.problems(), [])
        self.assertIn("does not take messages", self.bridge.degraded()[0])
        # Several times as long as all attempts of a message would take.
        await self.sleep(2.0)
        self.assertEqual(self.count("dlq_total", "dead"), 0)
        self.assertEqual(self.count("breaker_state", "healthy"), 0)
        self.assertLessEqual((await self.info("dead")).num_ack_pending, 24)
        back = self.reactor.seconds()
        dead.listen()
        await self.until(lambda: len(set(dead.bodies)) == total, what="the backlog")
        took = self.reactor.seconds() - back
        self.log.info("{total} messages were there {took:.1f} s after the target", total=total, took=took)
        self.assertLess(took, 10.0)
        await self.finished("dead")
        self.assertEqual(self.count("dlq_total", "dead"), 0)
        self.assertEqual(len(dead.received), total)
        self.assertEqual(len(healthy.received), total)
        self.assertEqual(self.count("breaker_state", "dead"), 0)
        self.assertEqual(self.bridge.degraded(), [])

    async def test_one_probe_at_a_time(self) -> None:
        """While the target is down it gets one request in each cooldown, and not one for each message that waits."""
        await self.start_streams()
        target = self.target(answer(503))
        await self.start_bridge(crm=(target, LONG.replace("400ms", "300ms")))
        await self.publish(*(b"%d" % number for number in range(50)))
        await self.until(lambda: self.count("breaker_state") == 2)
        await self.sleep(0.1)
        before, begun = len(target.received), self.reactor.seconds()
        await self.sleep(1.5)
        probes = len(target.received) - before
        self.assertIn(probes, range(1, 2 + int((self.reactor.seconds() - begun) / 0.3)))
        self.assertEqual(self.count("dlq_total"), 0)

    async def test_no_attempt_is_burnt(self) -> None:
        """However long a target is down, a message has all its attempts left when it is back."""
        await self.start_streams()
        status = [503]
        target = self.target(lambda request: answer(status[0]))
        keys = 'retry = { schedule = ["20ms"], max_attempts = 3, jitter = 0 }\nbreaker = { after = 2, cooldown = "100ms" }'
        await self.start_bridge(crm=(target, keys))
        await self.publish(b"one")
        await self.until(lambda: len(target.received) >= 6)
        self.assertEqual(self.count("dlq_total"), 0)
        status[0] = 200
        await self.finished()
        self.assertEqual(self.count("messages_out_total"), 1)
        self.assertEqual(self.count("dlq_total"), 0)


class DeadLetterTests(WebhookCase):
    async def test_nowhere_to_store(self) -> None:
        """A message is never given up before it is stored: without a stream for dead letters it stays, and the bridge says why."""
        await self.start_streams(dlq=False)
        target = self.target(answer(422))
        await self.start_bridge(crm=(target, quick()))
        self.assertIn("no stream stores dlq.ORDERS.crm.*", self.bridge.degraded()[0])
        await self.publish(b"one")
        await self.until(lambda: self.count("messages_failed_total", reason="dlq"))
        self.assertEqual(self.count("acks_total", kind="term"), 0)
        self.assertEqual((await self.info()).num_ack_pending, 1)
        await self.js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"]))
        await self.until(lambda: self.count("dlq_total") == 1)
        await self.finished()
        # It was known to be a dead letter, and not sent again.
        self.assertEqual(len(target.received), 1)
        self.assertEqual(self.bridge.degraded(), [])

    async def test_stored_once(self) -> None:
        """A dead letter that was stored before a crash is not stored again after it, long after any duplicate window."""
        await self.start_streams()
        stream = await self.js.stream("DLQ")
        await stream.update(replace(stream.config, duplicate_window=0.1))
        target = self.target(answer(422))
        bridge = await self.start_bridge(crm=(target, quick()))
        await self.publish(b"one")
        await self.until(lambda: self.count("dlq_total") == 1)
        await self.finished()
        await bridge.stopService()
        await self.sleep(0.3)
        # As if the crash had come before the message was given up: it is delivered once more.
        await (await self.js.stream("ORDERS")).delete_consumer("crm")
        await self.start_bridge(crm=(target, quick()))
        await self.finished()
        await self.until(lambda: self.count("duplicates_total") == 1)
        self.assertEqual((await stream.info()).state.messages, 1)

    async def test_stream_made_anew(self) -> None:
        """A message of a new stream with the sequence of an old dead letter is another one, and is stored beside it."""
        await self.start_streams()
        target = self.target(answer(422))
        bridge = await self.start_bridge(crm=(target, quick()))
        await self.publish(b"old")
        await self.until(lambda: self.count("dlq_total") == 1)
        await bridge.stopService()
        await self.js.delete_stream("ORDERS")
        await self.js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        await self.publish(b"new")
        await self.start_bridge(crm=(target, quick()))
        await self.until(lambda: self.count("dlq_total") == 1)
        self.assertEqual([letter.data for letter in await self.route().dead_letters(5)], [b"new", b"old"])

    async def test_replay(self) -> None:
        """Dead letters go to the target again, with the ids that they had, and are deleted when it has taken them."""
        await self.start_streams()
        status = [422]
        target = self.target(lambda request: answer(status[0]))
        bystander = self.target()
        await self.start_bridge(crm=(target, quick()), other=(bystander, ""))
        await self.publish(b"one", b"two", b"three", headers={"Content-Type": "text/plain"})
        await self.until(lambda: self.count("dlq_total") == 3)
        ids = {request.body: request.id for request in target.received}
        route = self.route()
        self.assertEqual(await route.replay_dead_letters(None), 0)
        status[0] = 200
        letters = await route.dead_letters(10)
        chosen = [letter.seq for letter in letters if letter.data == b"two"]
        del target.received[:]
        self.assertEqual(await route.replay_dead_letters(chosen), 1)
        self.assertEqual(target.bodies, [b"two"])
        self.assertEqual(target.received[0].header("nats-bridge-replay"), "2")
        self.assertEqual(target.received[0].header("content-type"), "text/plain")
        self.assertEqual(target.received[0].header("nats-subject"), "orders.new")
        self.assertEqual(await route.replay_dead_letters(None), 2)
        self.assertEqual({request.body: request.id for request in target.received}, ids)
        self.assertEqual(await route.dead_letters(10), [])
        # Nobody else got them twice.
        self.assertEqual(len(bystander.received), 3)

    async def test_delete(self) -> None:
        """Dead letters are deleted by their sequences or all, and those of other routes in the same stream stay."""
        await self.start_streams()
        target = self.target(answer(422))
        await self.start_bridge(crm=(target, quick()), other=(target, quick()))
        await self.publish(b"one", b"two", b"three")
        await self.until(lambda: self.count("dlq_total") == 3 and self.count("dlq_total", "other") == 3)
        route, other = self.route(), self.route("other")
        seqs = [letter.seq for letter in await route.dead_letters(10)]
        others = [letter.seq for letter in await other.dead_letters(10)]
        self.assertEqual(await route.delete_dead_letters([*seqs[:1], *others, 999]), 1)
        self.assertEqual(await route.delete_dead_letters(None), 2)
        self.assertEqual(await route.dead_letters(10), [])
        self.assertEqual(len(await other.dead_letters(10)), 3)

    async def test_newest_of_many(self) -> None:
        """The newest are listed, the newest first, also where the stream holds many others behind them."""
        await self.start_streams()
        target = self.target(answer(422))
        await self.start_bridge(crm=(target, quick()))
        await self.publish(*(b"%d" % number for number in range(5)))
        await self.until(lambda: self.count("dlq_total") == 5)
        for number in range(700):
            await self.nc.publish(f"dlq.OTHER.x.{number}")
        await self.nc.flush()
        letters = await self.route().dead_letters(3)
        self.assertEqual(len(letters), 3)
        seqs = [letter.seq for letter in letters]
        self.assertEqual(seqs, sorted(seqs, reverse=True))
        self.assertEqual(max(seqs), 5)


class ConsumerTests(WebhookCase):
    async def test_made(self) -> None:
        """The consumer is made as the route needs it."""
        await self.start_streams()
        await self.start_bridge(crm=(self.target(), 'filter = ["orders.*.new", "orders.x"]\nconcurrency = 500'))
        config = (await self.info()).config
        self.assertEqual((config.durable, config.ack_policy, config.max_deliver, config.ack_wait), ("crm", AckPolicy.EXPLICIT, -1, 10.0))
        self.assertEqual(sorted(config.filter_subjects), ["orders.*.new", "orders.x"])
        self.assertEqual(config.max_ack_pending, 2000)

    async def test_unfit(self) -> None:
        """A consumer that cannot serve the route is left alone, and is a problem that names what is wrong; mended, it is used."""
        await self.start_streams()
        stream = await self.js.stream("ORDERS")
        target = self.target()
        wrong = ConsumerConfig(durable="crm", max_deliver=3)
        consumer: Any = await stream.create_consumer(wrong)
        self.make_bridge(crm=(target, ""))
        await self.until(lambda: any("its max_deliver is 3" in problem for problem in self.bridge.problems()))
        await consumer.update(replace(wrong, max_deliver=-1))
        await self.publish(b"one")
        await self.until(lambda: target.received)

    async def test_deleted(self) -> None:
        """When somebody deletes the consumer it is made again, and goes on behind what was finished."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, ""))
        await self.publish(*(b"%d" % number for number in range(10)))
        await self.finished()
        await (await self.js.stream("ORDERS")).delete_consumer("crm")
        await self.publish(b"after")
        await self.until(lambda: b"after" in target.bodies)
        self.assertEqual(len(target.received), 11)
        self.assertEqual(self.bridge.problems(), [])

    async def test_deleted_at_a_work_queue(self) -> None:
        """The same where the stream is a work queue, which keeps only what is not finished."""
        await self.start_streams()
        await self.js.delete_stream("ORDERS")
        await self.js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"], retention=RetentionPolicy.WORKQUEUE))
        target = self.target()
        await self.start_bridge(crm=(target, ""))
        await self.publish(b"before")
        await self.finished()
        await (await self.js.stream("ORDERS")).delete_consumer("crm")
        await self.publish(b"after")
        await self.until(lambda: b"after" in target.bodies)
        self.assertEqual(target.bodies, [b"before", b"after"])

    async def test_no_stream(self) -> None:
        """A stream that is not there is a problem of the route; when it is made, the route goes on by itself."""
        await self.start_streams()
        await self.js.delete_stream("ORDERS")
        target = self.target()
        self.make_bridge(crm=(target, ""))
        await self.until(lambda: self.bridge.problems() == ["routes.crm: there is no stream ORDERS"])
        await self.js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"], retention=RetentionPolicy.WORKQUEUE))
        await self.publish(b"one")
        await self.until(lambda: target.received and not self.bridge.problems())

    async def test_server_restarts(self) -> None:
        """A NATS server that is killed while requests are under way: every message arrives."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, 'ack_wait = "1s"\n' + quick(attempts=10)))
        await self.publish(*(b"%d" % number for number in range(300)))
        await self.until(lambda: len(target.received) > 20)
        await self.server.restart(kill=True)
        await self.until(lambda: len(set(target.bodies)) == 300)
        await self.until(lambda: self.nc.is_connected)
        await self.finished()

    async def test_strict_order(self) -> None:
        """With ``ordering = "strict"`` a message that fails holds up those behind it, and the target gets all in their order."""
        await self.start_streams()
        failing = {b"3": 4, b"7": 2}

        def respond(request: Received) -> bytes:
            left = failing.get(request.body, 0)
            failing[request.body] = left - 1
            return answer(422 if left % 2 else 503) if left > 0 else OK

        target = self.target(respond)
        await self.start_bridge(crm=(target, quick(attempts=2) + '\nordering = "strict"'))
        await self.publish(*(b"%d" % number for number in range(10)))
        await self.finished()
        expected = ["0", "1", "2", *["3"] * 5, "4", "5", "6", *["7"] * 3, "8", "9"]
        self.assertEqual([body.decode() for body in target.bodies], expected)
        self.assertEqual((await self.info()).config.max_ack_pending, 1)

    async def test_stop(self) -> None:
        """A stop finishes the requests under way, begins no other, and leaves nothing half done."""
        await self.start_streams()
        target = self.target(HANG)
        bridge = await self.start_bridge(crm=(target, "concurrency = 4"))
        await self.publish(*(b"%d" % number for number in range(10)))
        await self.until(lambda: len(target.received) == 4)
        stopped = bridge.stopService()
        await self.sleep(0.1)
        self.assertNoResult(stopped)
        for request in target.received:
            request.connection.transport.write(OK)
        await stopped
        self.assertEqual(len(target.received), 4)
        info = await self.info()
        self.assertEqual((info.num_pending, info.num_ack_pending), (6, 0))

    async def test_stop_is_bounded(self) -> None:
        """What a target does not answer within ``drain_timeout`` is given back at once, for whoever comes next."""
        await self.start_streams()
        target = self.target(HANG)
        bridge = await self.start_bridge(crm=(target, ""))
        await self.publish(b"one")
        await self.until(lambda: target.received)
        stopped = bridge.stopService()
        bridge.cut_short()
        await stopped
        target.answers = lambda request: OK
        await self.start_bridge(crm=(target, ""))
        await self.until(lambda: len(target.received) == 2, what="the message to come again long before ack_wait")


class OperationTests(WebhookCase):
    async def test_readiness(self) -> None:
        """While a target is down the bridge is ready, and says that it is degraded, by what."""
        await self.start_streams()
        target = self.target(answer(503))
        bridge = await self.start_bridge(crm=(target, LONG + "\npermanent_attempts = 9"))
        await self.publish(*(b"%d" % number for number in range(20)))
        await self.until(lambda: self.count("breaker_state") == 2)
        port: Any = bridge.admin.port  # type: ignore[union-attr]
        response = await Agent(self.reactor).request(b"GET", f"http://127.0.0.1:{port.getHost().port}/readyz".encode())
        content = json.loads(await readBody(response))
        self.assertEqual((response.code, content["status"]), (200, "degraded"))
        self.assertIn(f"routes.crm: {target.url} d", content["degraded"][0])

    async def test_pause(self) -> None:
        """A paused route takes nothing; resumed, it goes on where it was."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target, ""))
        self.route().pause()
        await self.publish(b"one", b"two")
        await self.sleep(0.3)
        self.assertEqual(target.received, [])
        # What a pull brought that had been waiting was given back, and no other was made.
        self.assertLessEqual(self.count("acks_total", kind="nak"), 1)
        self.assertEqual(self.bridge.degraded(), ["routes.crm: paused: by request"])
        self.route().resume()
        await self.until(lambda: len(target.received) == 2)

    async def test_interfaces(self) -> None:
        """The route offers what the admin API and the dashboard ask for, and says in words what it does and how it is."""
        await self.start_streams()
        target = self.target()
        await self.start_bridge(crm=(target.url + "?token=geheim", 'filter = ["orders.*.new"]'))
        route = self.route()
        for interface in (IRoute, IPausable, IDeadLetters, IDescribed, IDegradable):
            verifyObject(interface, route)
        described = route.describe()
        self.assertEqual((described.source, described.target), ("ORDERS: orders.*.new", f"POST {target.url}"))
        self.assertEqual(described.state, {"breaker": "closed", "in flight": "0"})
        self.assertIn(("publish a message", "nats pub orders.x.new hello"), described.commands)
        route.pause()
        self.assertEqual(route.describe().state["paused"], "by request")
        self.assertNotIn("geheim", repr(described) + repr(self.bridge.degraded()))

    async def test_two_bridges(self) -> None:
        """Two bridges on one consumer share its messages, and none is sent twice."""
        await self.start_streams()
        first, second = self.target(), self.target()
        await self.start_bridge(crm=(first, ""))
        await self.start_bridge(crm=(second, ""))
        await self.publish(*(b"%d" % number for number in range(400)))
        await self.until(lambda: len(first.received) + len(second.received) >= 400)
        await self.finished()
        self.assertEqual(len({*first.bodies, *second.bodies}), 400)
        self.assertEqual(len(first.received) + len(second.received), 400)
        self.assertTrue(first.received and second.received)
