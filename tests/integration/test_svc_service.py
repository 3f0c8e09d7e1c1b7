"""Services on a real server: they survive it, scale up and down without losing a request, and stop when it denies them something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from pynats_twisted import Msg, NatsClient
from pynats_twisted.errors import NatsError, NoRespondersError, PermissionsViolationError, RequestTimeoutError
from pynats_twisted.services import Service, ServiceClient, ServiceConfig, ServiceDiscovery, ServiceRequest
from tests.support.integration import PATIENCE, IntegrationTestCase

QUICK: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0, "max_reconnect_attempts": -1}


class ServiceTestCase(IntegrationTestCase):
    async def serve(self, nc: NatsClient, handler: Any, **options: Any) -> Service:
        """A service with one endpoint, ``do``."""
        service = await nc.add_service(ServiceConfig("shop", "1.0.0"))
        await service.add_endpoint("do", handler, **options)
        return service


class SurvivalTests(ServiceTestCase):
    async def test_restarts(self) -> None:
        """After each of three restarts of the server the service is found with the same id, answers, and has counted on."""
        server = await self.start_server()
        caller = await self.connect(server, **QUICK)
        service = await self.serve(await self.connect(server, **QUICK), lambda request: request.data.upper())
        discovery = ServiceDiscovery(caller)
        for number in range(1, 4):
            await server.restart(kill=number == 2)
            answer = await self.answered(caller, b"tea%d" % number)
            self.assertEqual(answer.data, b"TEA%d" % number)
            (found,) = await discovery.wait_for("shop", timeout=PATIENCE)
            self.assertEqual(found.id, service.id)
        self.assertGreaterEqual(service.endpoints[0].num_requests, 3)
        self.assertFalse(service.is_stopped)

    async def answered(self, caller: NatsClient, data: bytes) -> Msg:
        """The answer to a request that is sent until there is one."""
        deadline = self.reactor.seconds() + PATIENCE
        while True:
            try:
                return await caller.request("do", data, timeout=2.0)
            except (NoRespondersError, RequestTimeoutError):
                # The caller was sooner with the new server than the service, or the request went down with the old one.
                self.assertLess(self.reactor.seconds(), deadline, "nobody answered")
                await self.sleep(0.05)

    async def test_scaling_loses_nothing(self) -> None:
        """Instances come and go under load, each after the other: no request is lost, and none is answered twice."""
        server = await self.start_server()
        caller = await self.connect(server)
        handled: list[bytes] = []

        async def handler(request: ServiceRequest) -> bytes:
            await deferLater(self.reactor, 0.002)
            handled.append(request.data)
            return request.data

        clients = [await self.connect(server) for _ in range(2)]
        instance = await self.serve(clients[0], handler, concurrency=8)
        sent, over = 0, False
        lost: list[tuple[bytes, object]] = []

        async def load() -> None:
            nonlocal sent
            while not over:
                sent += 1
                data = b"%d" % sent
                try:
                    answer = await caller.request("do", data, timeout=PATIENCE)
                except NatsError as error:
                    lost.append((data, error))
                else:
                    if answer.data != data:
                        lost.append((data, answer))

        loads = [Deferred.fromCoroutine(load()) for _ in range(20)]
        for number in range(1, 7):
            next_instance = await self.serve(clients[number % 2], handler, concurrency=8)
            before = len(handled)
            await self.until(lambda before=before: len(handled) > before + 50)  # type: ignore[misc]
            await instance.stop()
            instance = next_instance
        over = True
        await gatherResults(loads)
        self.assertEqual((lost, len(handled), len(set(handled))), ([], sent, sent))
        self.assertGreater(sent, 300)
        self.assertEqual(sum(len(client.subscriptions) for client in clients), 10)

    async def test_drained_client(self) -> None:
        """Draining a client answers every request that its service has got."""
        server = await self.start_server()
        caller, nc = await self.connect(server), await self.connect(server)

        async def handler(request: ServiceRequest) -> bytes:
            await deferLater(self.reactor, 0.01)
            return request.data

        service = await self.serve(nc, handler, concurrency=2)
        asked = [caller.request("do", b"%d" % number, timeout=PATIENCE) for number in range(40)]
        await self.until(lambda: service.endpoints[0].num_requests > 2)
        stopped = service.stopped
        await nc.drain()
        self.assertEqual([msg.data for msg in await gatherResults(asked)], [b"%d" % number for number in range(40)])
        self.assertIsNone(await stopped)


class StreamingTests(ServiceTestCase):
    async def test_by_the_caller(self) -> None:
        """An answer of many parts is read by the caller, in order, to its end."""
        server = await self.start_server()
        caller = await self.connect(server)

        async def numbers(request: ServiceRequest) -> AsyncIterator[bytes]:
            for number in range(int(request.data)):
                yield b"%d" % number

        await self.serve(await self.connect(server), numbers, streaming=True)
        shop = ServiceClient(caller, "shop")
        parts = [msg.data async for msg in shop.request_many("do", b"500", timeout=PATIENCE)]
        self.assertEqual(parts, [b"%d" % number for number in range(500)])


ACCOUNTS = """
accounts {
  north {
    users: [{user: north, password: p}]
    exports: [{service: "shop.>"}, {service: "$SRV.>", response_type: stream}]
  }
  south {
    users: [{user: south, password: p}]
    imports: [
      {service: {account: north, subject: "shop.>"}}
      {service: {account: north, subject: "$SRV.>"}, to: "north.srv.>"}
    ]
  }
}
"""


class AccountTests(ServiceTestCase):
    async def test_of_another_account(self) -> None:
        """Where an account imports a service of another one, it is found and used from there, and has nothing to allow for that."""
        server = await self.start_server(ACCOUNTS)
        service = await (await self.connect(server, user="north", password="p")).add_service(ServiceConfig("shop", "1.0.0"))
        await service.add_group("shop").add_endpoint("do", lambda request: request.data.upper())
        south = await self.connect(server, user="south", password="p")
        (info,) = await ServiceDiscovery(south, prefix="north.srv").info("shop")
        self.assertEqual((info.id, [endpoint.subject for endpoint in info.endpoints]), (service.id, ["shop.do"]))
        answer = await ServiceClient(south, "shop", prefix="north.srv").request("do", b"tea", timeout=10.0)
        self.assertEqual(answer.data, b"TEA")
        self.assertEqual((service.endpoints[0].num_requests, service.endpoints[0].num_errors), (1, 0))


class DeniedTests(ServiceTestCase):
    def users(self, *deny: str) -> list[dict[str, Any]]:
        return [{"user": "u", "password": "p", "permissions": {"subscribe": {"deny": list(deny)}}}]

    async def test_endpoint(self) -> None:
        """An endpoint that the server denies stops the whole service, which tells why."""
        server = await self.start_server(users=self.users("secret"))
        nc = await self.connect(server, user="u", password="p")
        service = await nc.add_service(ServiceConfig("shop", "1.0.0"))
        await service.add_endpoint("good", lambda request: b"x")
        await self.assertFailure(service.add_endpoint("secret", lambda request: b"x").confirmed(), PermissionsViolationError)
        error = await service.stopped
        self.assertEqual((type(error), getattr(error, "subject", "")), (PermissionsViolationError, "secret"))
        await self.assertFailure(nc.request("good"), NoRespondersError)
        self.assertEqual(nc.subscriptions[1:], ())

    async def test_discovery(self) -> None:
        """A service that nobody could find does not begin."""
        server = await self.start_server(users=self.users("$SRV.STATS.shop"))
        nc = await self.connect(server, user="u", password="p")
        error: Any = await self.assertFailure(nc.add_service(ServiceConfig("shop", "1.0.0")), PermissionsViolationError)
        self.assertEqual((error.subject, nc.subscriptions), ("$SRV.STATS.shop", ()))

    async def test_taken_away(self) -> None:
        """A permission that a reload of the server takes away stops the service."""
        server = await self.start_server(users=self.users("secret"))
        nc = await self.connect(server, user="u", password="p", **QUICK)
        service = await self.serve(nc, lambda request: b"x")
        stopped = service.stopped
        await server.reload(users=self.users("do"))
        self.assertIsInstance(await stopped, PermissionsViolationError)
        self.assertEqual(nc.subscriptions, ())
