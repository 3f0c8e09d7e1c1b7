"""A service's life: what it tells of itself, how it begins, and how it ends."""

from __future__ import annotations

import gc
import json
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError

from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    DrainTimeoutError,
    MaxSubscriptionsExceededError,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    ServiceConfigError,
    ServiceStoppedError,
    SlowConsumerError,
)
from pynats_twisted.services import Service, ServiceConfig
from pynats_twisted.testing import connected_client
from tests.client.support import Slow

from .served import ServedTestCase, silent

VERBS = ("PING", "INFO", "STATS")


def monitoring(service: Service, prefix: str = "$SRV") -> list[str]:
    """The subjects on which a service is found."""
    return [f"{prefix}.{verb}{rest}" for verb in VERBS for rest in ("", f".{service.name}", f".{service.name}.{service.id}")]


class MonitoringTests(ServedTestCase):
    """PING, INFO and STATS."""

    def test_who_answers(self) -> None:
        """All services answer where all are asked, those of a name where it is asked for, and one instance to its id."""
        services = [self.serve("shop"), self.serve("shop"), self.serve("bank")]
        ids = [service.id for service in services]
        self.assertEqual(len(set(ids)), 3)
        for verb in VERBS:
            for rest, expected in (("", ids), (".shop", ids[:2]), (".bank", ids[2:]), (f".shop.{ids[1]}", ids[1:2])):
                answers = [json.loads(msg.data) for msg in self.ask_all(f"$SRV.{verb}{rest}")]
                self.assertEqual(sorted(answer["id"] for answer in answers), sorted(expected), (verb, rest))
                self.assertEqual({answer["type"] for answer in answers}, {f"io.nats.micro.v1.{verb.lower()}_response"})
            for rest in (".none", f".bank.{ids[0]}", f".shop.{ids[2]}", ".SHOP"):
                self.assertRaises(NoRespondersError, self.ask_all, f"$SRV.{verb}{rest}")

    def test_ping(self) -> None:
        """PING tells which instance of which service it is."""
        service = self.serve(metadata={"zone": "a"})
        expected = {
            "type": "io.nats.micro.v1.ping_response",
            "name": "shop",
            "id": service.id,
            "version": "1.0.0",
            "metadata": {"zone": "a"},
        }
        self.assertEqual(self.json_of("$SRV.PING"), expected)

    def test_info(self) -> None:
        """INFO tells where the endpoints are, also of those that are added later."""
        service = self.serve(description="sells tea", metadata={"zone": "a"})
        expected: dict[str, Any] = {"type": "io.nats.micro.v1.info_response", "name": "shop", "id": service.id, "version": "1.0.0"}
        expected |= {"metadata": {"zone": "a"}, "description": "sells tea", "endpoints": []}
        self.assertEqual(self.json_of("$SRV.INFO"), expected)
        service.add_endpoint("buy", silent, metadata={"schema": "1"})
        group = service.add_group("admin", queue="boss").add_group("stock")
        group.add_endpoint("fill", silent, subject="fill.*", queue=None)
        self.assertEqual((group.prefix, group.service), ("admin.stock", service))
        expected["endpoints"] = [
            {"name": "buy", "subject": "buy", "queue_group": "q", "metadata": {"schema": "1"}},
            {"name": "fill", "subject": "admin.stock.fill.*", "queue_group": "", "metadata": {}},
        ]
        self.assertEqual(self.json_of(f"$SRV.INFO.shop.{service.id}"), expected)
        self.assertEqual([endpoint.name for endpoint in service.endpoints], ["buy", "fill"])

    def test_stats(self) -> None:
        """STATS tells since when, and what each endpoint has done."""
        self.network.advance(1000)
        service = self.serve()
        self.endpoint(lambda request: b"", "buy", service=service)
        self.ask("buy")
        expected: dict[str, Any] = {"type": "io.nats.micro.v1.stats_response", "name": "shop", "id": service.id, "version": "1.0.0"}
        expected |= {"metadata": {}, "started": service.started.strftime("%Y-%m-%dT%H:%M:%S")}
        counted = {"num_requests": 1, "num_errors": 0, "last_error": "", "processing_time": 0, "average_processing_time": 0}
        expected["endpoints"] = [{"name": "buy", "subject": "buy", "queue_group": "q", **counted}]
        found = self.json_of("$SRV.STATS")
        self.assertEqual((found["started"][:19], found["started"][-1]), (expected["started"], "Z"))
        self.assertEqual({**found, "started": expected["started"]}, expected)
        self.assertEqual((service.stats().endpoints[0].num_requests, service.started.timestamp()), (1, self.network.seconds() - 1))

    def test_groups_without_a_prefix(self) -> None:
        """A group may have an empty prefix, also within another one."""
        service = self.serve()
        subjects = [
            service.add_group("").add_endpoint("a", silent).subject,
            service.add_group("g").add_group("").add_endpoint("b", silent, subject="x.y").subject,
            service.add_group("").add_group("h.*").add_endpoint("c", silent).subject,
        ]
        self.assertEqual(subjects, ["a", "g.x.y", "h.*.c"])

    def test_prefix_and_id(self) -> None:
        """The prefix and the id may be chosen; the subjects have both as they are."""
        service = self.serve(prefix="import.$SRV", id="one")
        self.assertEqual(self.json_of("import.$SRV.PING.shop.one")["id"], "one")
        self.assertRaises(NoRespondersError, self.ask, "$SRV.PING")
        self.assertEqual([each.subject for each in self.nc.subscriptions], monitoring(service, "import.$SRV"))
        self.assertEqual({each.queue for each in self.nc.subscriptions}, {None})

    def test_reconnect(self) -> None:
        """The service is there after a lost connection as before, with its numbers."""
        service = self.serve()
        self.endpoint(lambda request: b"x", service=service)
        self.ask()
        self.network.server().restart()
        self.network.advance(10)
        self.assertEqual(self.ask().data, b"x")
        self.assertEqual(self.json_of("$SRV.STATS.shop")["endpoints"][0]["num_requests"], 2)


class BeginningTests(ServedTestCase):
    """How a service begins, and when it does not."""

    def test_without_a_connection(self) -> None:
        """It waits for a connection; when that is there, the server has all of it."""
        network = self.network
        network.refuse("127.0.0.1:4222")
        network.cut("127.0.0.1:4222")
        network.advance(1)
        waiting = self.nc.add_service(ServiceConfig("shop", "1.0.0"))
        network.advance(5)
        self.assertNoResult(waiting)
        network.accept("127.0.0.1:4222")
        network.advance(10)
        service = self.successResultOf(waiting)
        self.assertEqual(self.json_of("$SRV.PING")["id"], service.id)

    def test_cancelled(self) -> None:
        """Who cancels before the server has it leaves nothing."""
        waiting = self.nc.add_service(ServiceConfig("shop", "1.0.0"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.network.advance()
        self.assertEqual((self.nc.subscriptions, self.on_server()), ((), []))

    def test_closed_client(self) -> None:
        """A client that is closed, or is closed before the server has it, has no service."""
        waiting = self.nc.add_service(ServiceConfig("shop", "1.0.0"))
        closed = self.nc.close()
        self.failureResultOf(waiting, ConnectionClosedError)
        self.network.run(closed)
        self.failureResultOf(self.nc.add_service(ServiceConfig("shop", "1.0.0")), ConnectionClosedError)

    def test_not_a_configuration(self) -> None:
        """What is no ServiceConfig is refused with the value."""
        wrong: Any = {"name": "shop"}
        error = self.failureResultOf(self.nc.add_service(wrong), ServiceConfigError).value
        self.assertIn("{'name': 'shop'} must be a ServiceConfig", str(error))


class StoppingTests(ServedTestCase):
    """Stopping loses nothing, and leaves nothing."""

    def test_drains(self) -> None:
        """Requests that came are answered, no new ones are taken, and discovery gets answers until that is done; then nothing is left."""
        slow = Slow()

        async def handler(request: Any) -> bytes:
            await slow(request)
            return bytes(request.data)

        endpoint = self.endpoint(handler)
        service = endpoint.service
        asked = [self.begin(data=data) for data in (b"1", b"2")]
        stopping, stopped = service.stop(), service.stopped
        self.network.advance(1)
        self.assertNoResult(stopping)
        self.assertEqual((repr(service).split()[4], service.is_stopped), ("stopping,", False))
        self.assertRaises(NoRespondersError, self.ask)
        self.assertEqual(self.json_of("$SRV.PING")["id"], service.id)
        slow.finish_all()
        self.network.advance()
        self.assertEqual([self.successResultOf(each).data for each in asked], [b"1", b"2"])
        self.assertEqual((self.successResultOf(stopping), self.successResultOf(stopped), service.is_stopped), (None, None, True))
        self.assertEqual((self.nc.subscriptions, self.on_server()), ((), []))
        self.assertRaises(NoRespondersError, self.ask, "$SRV.PING")
        self.assertIsNone(self.successResultOf(service.stop()))
        self.assertIsNone(self.successResultOf(service.stopped))

    def test_takes_too_long(self) -> None:
        """A handler that does not end keeps the service from stopping for as long as is given; both learn of it."""
        slow = Slow()
        endpoint = self.endpoint(slow)
        self.caller.publish("do", b"1")
        self.caller.publish("do", b"2")
        self.network.advance()
        stopping, again = endpoint.service.stop(timeout=3.0), endpoint.service.stop()
        self.network.advance(2.9)
        self.assertNoResult(stopping)
        self.network.advance(0.2)
        self.failureResultOf(stopping, DrainTimeoutError)
        self.failureResultOf(again, DrainTimeoutError)
        self.assertTrue(endpoint.service.is_stopped)
        slow.finish_all()
        self.network.advance()
        self.assertEqual((slow.begun, self.nc.subscriptions, self.on_server()), ([b"1"], (), []))

    def test_wrong_timeout(self) -> None:
        """A time limit that is none is refused, and the service goes on."""
        service = self.serve()
        wrong: Any = "soon"
        self.assertRaises(ConfigurationError, service.stop, timeout=wrong)
        self.assertEqual(self.json_of("$SRV.PING")["id"], service.id)

    def test_cancelled(self) -> None:
        """Who cancels no longer waits; the service stops all the same."""
        service = self.serve()
        stopping = service.stop()
        stopping.cancel()
        self.failureResultOf(stopping, CancelledError)
        self.network.advance()
        self.assertTrue(service.is_stopped)

    def test_with_an_error(self) -> None:
        """The error that it is stopped with is told to whoever waits for the end."""
        service = self.serve()
        waiting = service.stopped
        error = RuntimeError("no more tea")
        self.network.run(service.stop(error))
        self.assertEqual((self.successResultOf(waiting), self.successResultOf(service.stopped), service.error), (error, error, error))

    def test_nothing_can_be_added(self) -> None:
        """From the moment at which it stops it takes no endpoints, and says so."""
        service = self.serve()
        group = service.add_group("g")
        stopping = service.stop()
        self.assertIn("is stopping", str(self.assertRaises(ServiceStoppedError, service.add_endpoint, "a", silent)))
        self.network.run(stopping)
        self.assertIn("has stopped", str(self.assertRaises(ServiceStoppedError, group.add_endpoint, "a", silent)))

    def test_context_manager(self) -> None:
        """``async with`` stops it at the end, also after an error."""

        async def use(error: Exception | None) -> Service:
            async with await self.nc.add_service(ServiceConfig("shop", "1.0.0")) as service:
                self.assertFalse(service.is_stopped)
                if error is not None:
                    raise error
            return service

        self.assertTrue(self.network.run(use(None)).is_stopped)
        self.assertRaises(ZeroDivisionError, self.network.run, use(ZeroDivisionError()))
        self.assertEqual(self.nc.subscriptions, ())

    def test_client_is_drained(self) -> None:
        """Draining the client answers what came, and stops its services without an error."""
        slow = Slow()

        async def handler(request: Any) -> bytes:
            await slow(request)
            return b"x"

        services = [self.endpoint(handler).service, self.serve("bank")]
        asked = self.begin()
        drained = self.nc.drain()
        self.network.advance(1)
        slow.finish_all()
        self.network.advance(1)
        self.successResultOf(drained)
        self.assertEqual(self.successResultOf(asked).data, b"x")
        self.assertEqual([self.successResultOf(service.stopped) for service in services], [None, None])

    def test_client_is_closed(self) -> None:
        """Closing the client stops its services without an error."""
        endpoint = self.endpoint(lambda request: b"x")
        self.network.run(self.nc.close())
        self.assertIsNone(self.successResultOf(endpoint.service.stopped))
        self.assertIsNone(self.successResultOf(endpoint.service.stop()))

    def test_connection_is_lost_while_it_stops(self) -> None:
        """A lost connection ends the draining; that is no error, and the service is not renewed."""
        slow = Slow()
        endpoint = self.endpoint(slow)
        self.caller.publish("do", b"1")
        self.network.advance()
        stopping = endpoint.service.stop()
        self.network.cut("127.0.0.1:4222")
        slow.finish_all()
        self.network.advance(10)
        self.assertIsNone(self.successResultOf(stopping))
        self.assertEqual((self.nc.subscriptions, self.on_server()), ((), []))

    def test_a_lost_client(self) -> None:
        """A client that gives up its connection stops its services with the reason."""
        nc = connected_client(self, network=self.network, allow_reconnect=False).client
        service = self.serve(client=nc)
        self.network.links[-1].cut()
        self.network.advance(1)
        self.assertIsInstance(self.successResultOf(service.stopped), ConnectionClosedError)

    def test_overflow(self) -> None:
        """An endpoint that may not have so many requests waiting ends, and with it the service, when those that waited are handled."""
        slow = Slow()
        service = self.serve()
        self.endpoint(slow, service=service, pending_msgs=1, overflow="error")
        for data in (b"1", b"2", b"3"):
            self.caller.publish("do", data)
        self.network.advance()
        slow.finish_all()
        self.network.advance()
        self.assertIsInstance(self.successResultOf(service.stopped), SlowConsumerError)
        self.assertEqual((slow.begun, self.nc.subscriptions), ([b"1", b"2"], ()))


class DeniedTests(ServedTestCase):
    """A server that does not let a service have its subjects."""

    server_options: ClassVar[dict[str, Any]] = {
        "users": [
            {"user": "caller", "password": "x"},
            {"user": "service", "password": "x", "permissions": {"subscribe": {"deny": ["secret", "$SRV.INFO"]}}},
            {"user": "limited", "password": "x", "permissions": {"subscribe": {"deny": ["secret"]}}},
        ],
    }
    options: ClassVar[dict[str, Any]] = {"user": "caller", "password": "x"}

    def client_of(self, user: str) -> Any:
        return connected_client(self, network=self.network, user=user, password="x").client

    def test_discovery(self) -> None:
        """A service that may not be asked does not begin; who waits for it learns why."""
        nc = self.client_of("service")
        error = self.failureResultOf(self.begun(nc), PermissionsViolationError).value
        self.assertEqual((error.subject, nc.subscriptions), ("$SRV.INFO", ()))

    def begun(self, nc: Any) -> Any:
        waiting = nc.add_service(ServiceConfig("shop", "1.0.0"))
        self.network.advance()
        return waiting

    def test_endpoint(self) -> None:
        """An endpoint that is denied fails who waits for it, and stops the whole service with that error."""
        nc = self.client_of("limited")
        service = self.successResultOf(self.begun(nc))
        service.add_endpoint("good", silent)
        waiting = service.add_endpoint("bad", silent, subject="secret").confirmed()
        self.network.advance()
        self.failureResultOf(waiting, PermissionsViolationError)
        error = self.successResultOf(service.stopped)
        self.assertEqual((type(error), error.subject, service.error), (PermissionsViolationError, "secret", error))
        self.assertEqual(nc.subscriptions, ())
        self.assertRaises(NoRespondersError, self.ask, "$SRV.PING")

    def test_while_a_handler_hangs(self) -> None:
        """A handler that does not end delays that for the time of a drain at most, and nobody has to ask how it went."""
        nc = self.client_of("limited")
        service = self.successResultOf(self.begun(nc))
        slow = Slow()
        service.add_endpoint("good", slow)
        self.network.advance()
        self.caller.publish("good")
        self.network.advance()
        service.add_endpoint("bad", silent, subject="secret")
        self.network.advance(29)
        self.assertNoResult(stopped := service.stopped)
        self.network.advance(2)
        self.assertIsInstance(self.successResultOf(stopped), PermissionsViolationError)
        slow.finish_all()
        del service, stopped
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_permission_is_taken_away(self) -> None:
        """A permission that is lost later, with a new connection, stops the service as well."""
        nc = self.client_of("limited")
        service = self.successResultOf(self.begun(nc))
        service.add_endpoint("good", silent)
        self.network.advance()
        users = [*self.server_options["users"][:2], {"user": "limited", "password": "x", "permissions": {"subscribe": {"deny": ["good"]}}}]
        self.network.server().reload(users=users)
        self.network.cut("127.0.0.1:4222")
        self.network.advance(10)
        self.assertIsInstance(self.successResultOf(service.stopped), PermissionsViolationError)
        self.assertEqual(nc.subscriptions, ())


class LimitTests(ServedTestCase):
    server_options: ClassVar[dict[str, Any]] = {"max_subscriptions": 5}

    def test_too_many_subscriptions(self) -> None:
        """A server that does not take so many subscriptions gives no half of a service."""
        waiting = self.nc.add_service(ServiceConfig("shop", "1.0.0"))
        self.network.advance()
        self.failureResultOf(waiting, NatsError).trap(MaxSubscriptionsExceededError)
        self.network.advance()
        self.assertEqual((self.nc.subscriptions, self.on_server()), ((), []))
