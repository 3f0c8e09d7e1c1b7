"""Services on a real server, of this client and of others, found and asked by their names."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.errors import NoRespondersError, ServiceError, ServiceNotFoundError, ServiceResponseError
from pynats_twisted.services import EndpointStats, Service, ServiceClient, ServiceConfig, ServiceDiscovery, ServiceRequest
from pynats_twisted.services.api import VERBS, control_subject
from tests.services.schemas import complete, problems
from tests.support.integration import PATIENCE, IntegrationTestCase
from tests.support.peers import PeerProcess

NATS_PY = "by-nats-py"
NATSIO = "by-natsio"
# What is there to be tested with: natsio needs Python 3.13.
PEERS = (NATS_PY, NATSIO) if sys.version_info >= (3, 13) else (NATS_PY,)


def _sum(data: bytes) -> bytes:
    return str(sum(int(number) for number in data.split(b"+"))).encode()


async def _nats_py_service(url: str) -> Any:
    import nats
    import nats.micro
    from nats.micro.request import ServiceError as PeerError

    async def add(request: Any) -> None:
        await request.respond(_sum(request.data))

    async def refuse(request: Any) -> None:
        raise PeerError("422", "no numbers")

    client = await nats.connect(url)
    config: Any = {"name": NATS_PY, "version": "1.2.3-rc.1", "description": "Adds.", "metadata": {"zone": "north"}}
    service = await nats.micro.add_service(client, **config)
    group = service.add_group(name="north.calc", queue_group="adders")
    await group.add_endpoint(name="add", handler=add, metadata={"unit": "none"})
    await service.add_endpoint(name="refuse", handler=refuse, subject=f"{NATS_PY}.refuse")
    await client.flush()
    return client


async def _natsio_service(url: str) -> Any:
    import natsio
    from natsio.micro import add_service

    async def add(request: Any) -> None:
        await request.respond(_sum(request.data))

    async def refuse(request: Any) -> None:
        await request.respond_error("422", "no numbers")

    client = await natsio.connect(url)
    service: Any = add_service(client, name=NATSIO, version="1.2.3-rc.1", description="Adds.", metadata={"zone": "north"})
    group = service.add_group("south.calc", queue_group="adders")
    group.add_endpoint("add", add, metadata={"unit": "none"})
    service.add_endpoint("refuse", refuse, subject=f"{NATSIO}.refuse")
    await client.flush()
    return client


async def _peer(url: str) -> None:
    """The other side, in a process of its own: a service with each other client that there is, until it is killed."""
    clients = [await begin(url) for begin in (_nats_py_service, _natsio_service)[: len(PEERS)]]
    print("ready", flush=True)
    await asyncio.Event().wait()
    del clients


class ServicesTestCase(IntegrationTestCase):
    """A real server with a client."""

    nc: NatsClient

    async def begin(self) -> None:
        self.server = await self.start_server()
        self.nc = await self.connect(self.server)
        self.discovery = ServiceDiscovery(self.nc)

    async def serve(self, name: str = "ours", nc: NatsClient | None = None, group: str = "calc") -> Service:
        """An instance that adds, refuses and counts."""

        async def refuse(request: ServiceRequest) -> None:
            raise ServiceError(422, "no numbers", b"details")

        async def count(request: ServiceRequest) -> AsyncIterator[bytes]:
            for number in range(int(request.data)):
                yield b"%d" % number

        service = await (nc or self.nc).add_service(ServiceConfig(name, "1.2.3", description="Adds.", metadata={"zone": "north"}))
        within = service.add_group(f"{name}.{group}")
        await within.add_endpoint("add", lambda request: _sum(request.data), metadata={"unit": "none"})
        await within.add_endpoint("refuse", refuse)
        await within.add_endpoint("count", count, streaming=True)
        await within.add_endpoint("any", lambda request: request.subject.encode(), subject="any.*", queue=None)
        return service

    async def raw(self, verb: str, name: str) -> bytes:
        """An answer as it is on the wire."""
        return (await self.nc.request(control_subject(verb, name), timeout=PATIENCE)).data


class OursTests(ServicesTestCase):
    """Services of this client."""

    async def test_answers_follow_the_schemas(self) -> None:
        """PING, INFO and STATS of a service that has been used break no rule of ADR-32's schemas, and lack no field."""
        await self.begin()
        await self.serve()
        caller = ServiceClient(self.nc, "ours")
        self.assertEqual((await caller.request("add", b"1+2")).data, b"3")
        with self.assertRaises(ServiceResponseError):
            await caller.request("refuse")
        for verb in VERBS:
            data = await self.raw(verb, "ours")
            self.assertEqual((problems(verb, data), complete(verb, data)), ([], []), data)

    async def test_what_is_told(self) -> None:
        """Two instances are seen by all, by name and by id, and what they have done adds up."""
        await self.begin()
        other = await self.connect(self.server)
        services = [await self.serve(), await self.serve(nc=other), await self.serve("others")]
        ids = sorted(each.id for each in services[:2])
        found = await self.discovery.wait_for("ours", 2, timeout=PATIENCE)
        self.assertEqual(sorted(each.id for each in found), ids)
        self.assertTrue(all(0 < each.rtt < PATIENCE for each in found))
        everybody = await self.discovery.ping(max_answers=3, timeout=PATIENCE)
        self.assertEqual(sorted(each.id for each in everybody), sorted(each.id for each in services))
        (one,) = await self.discovery.info("ours", services[1].id, timeout=PATIENCE)
        self.assertEqual(one, services[1].info())
        caller = ServiceClient(self.nc, "ours")
        for _ in range(20):
            await caller.request("add", b"1+1", timeout=PATIENCE)
        stats = await self.discovery.stats("ours", max_answers=2, timeout=PATIENCE)
        self.assertEqual(sum(each.endpoints[0].num_requests for each in stats), 20)
        self.assertEqual(
            [each.started for each in sorted(stats, key=lambda each: each.id)],
            [each.started for each in sorted(services[:2], key=lambda each: each.id)],
        )

    async def test_calls(self) -> None:
        """Replies, errors, answers in parts, answers of all instances, and subjects with wildcards."""
        await self.begin()
        for nc in (self.nc, await self.connect(self.server)):
            await self.serve(nc=nc)
        caller = ServiceClient(self.nc, "ours")
        with self.assertRaises(ServiceResponseError) as caught:
            await caller.request("refuse", timeout=PATIENCE)
        error = caught.exception
        self.assertEqual((error.code, error.description, error.response.data), (422, "no numbers", b"details"))
        parts = [msg.data async for msg in caller.request_many("count", b"1000", timeout=PATIENCE)]
        self.assertEqual(parts, [b"%d" % number for number in range(1000)])
        both = caller.request_many("ours.calc.any.7", sentinel=None, max_msgs=2, timeout=PATIENCE)
        self.assertEqual([msg.data async for msg in both], [b"ours.calc.any.7"] * 2)
        with self.assertRaises(ServiceNotFoundError):
            await caller.request("subtract", timeout=PATIENCE)

    async def test_moving_and_going(self) -> None:
        """A caller follows a service to other subjects, and learns when it has gone."""
        await self.begin()
        caller = ServiceClient(self.nc, "ours")
        first = await self.serve(group="v1")
        self.assertEqual((await caller.request("add", b"1+2", timeout=PATIENCE)).data, b"3")
        await first.stop()
        second = await self.serve(group="v2")
        self.assertEqual((await caller.request("add", b"1+2", timeout=PATIENCE)).data, b"3")
        await second.stop()
        with self.assertRaises((NoRespondersError, ServiceNotFoundError)):
            await caller.request("add", b"1+2", timeout=PATIENCE)

    async def test_restart_of_the_server(self) -> None:
        """Services are found and answer again when the server has been restarted."""
        await self.begin()
        other = await self.connect(self.server, reconnect_wait=0.05)
        service = await self.serve(nc=other)
        await self.discovery.wait_for("ours", timeout=PATIENCE)
        await self.server.restart()
        found = await self.discovery.wait_for("ours", timeout=PATIENCE)
        self.assertEqual([each.id for each in found], [service.id])
        self.assertEqual((await ServiceClient(self.nc, "ours").request("add", b"2+2", timeout=PATIENCE)).data, b"4")


class PeersTests(ServicesTestCase):
    """Services of other clients, in another process."""

    async def begin(self) -> None:
        await super().begin()
        self.peer = PeerProcess()
        command = [sys.executable, "-m", "tests.integration.test_svc_discovery", self.server.url]
        checkout = str(Path(__file__).resolve().parents[2])
        process = self.reactor.spawnProcess(self.peer, sys.executable, command, env=None, path=checkout)
        self.addCleanup(self.end, process)
        await self.peer.ready

    async def end(self, process: Any) -> None:
        if not self.peer.ended.called:
            process.signalProcess("KILL")
            self.peer.ended.addErrback(lambda failure: None)
            await self.peer.ended

    async def counted(self, name: str, id: str, requests: int) -> dict[str, EndpointStats]:
        """The statistics of an instance, which may count a request only after its reply."""
        for _ in range(100):
            (stats,) = await self.discovery.stats(name, id, timeout=PATIENCE)
            if sum(each.num_requests for each in stats.endpoints) == requests:
                break
            await self.sleep(0.02)
        return {each.name: each for each in stats.endpoints}

    async def test_peers(self) -> None:
        """Services of other clients follow the schemas by our reading of them, are seen, say what they are, and are called by name."""
        await self.begin()
        found = await self.discovery.ping(max_answers=len(PEERS), timeout=PATIENCE)
        self.assertEqual(sorted(each.name for each in found), sorted(PEERS))
        for name in PEERS:
            for verb in VERBS:
                data = await self.raw(verb, name)
                self.assertEqual(problems(verb, data), [], data)
            info = await self.discovery.find(name, timeout=PATIENCE)
            self.assertEqual((info.version, info.description, dict(info.metadata)), ("1.2.3-rc.1", "Adds.", {"zone": "north"}))
            add = next(each for each in info.endpoints if each.name == "add")
            self.assertEqual(
                (add.subject.split(".")[1:], add.queue_group, dict(add.metadata)), (["calc", "add"], "adders", {"unit": "none"})
            )
            caller = ServiceClient(self.nc, name)
            for _ in range(3):
                self.assertEqual((await caller.request("add", b"20+22", timeout=PATIENCE)).data, b"42")
            with self.assertRaises(ServiceResponseError) as caught:
                await caller.request("refuse", timeout=PATIENCE)
            self.assertEqual((caught.exception.code, caught.exception.description), (422, "no numbers"))
            counted = await self.counted(name, info.id, 4)
            self.assertEqual((counted["add"].num_requests, counted["add"].num_errors, counted["add"].last_error), (3, 0, ""))
            self.assertEqual((counted["refuse"].num_requests, counted["refuse"].num_errors), (1, 1))
            self.assertIn("no numbers", counted["refuse"].last_error)
            self.assertTrue(0 < counted["add"].average_processing_time <= counted["add"].processing_time < PATIENCE)


if __name__ == "__main__":
    asyncio.run(_peer(sys.argv[1]))
