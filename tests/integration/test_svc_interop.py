"""Services of this client, of nats-py and of natsio: each is found and used by the others."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.errors import NoRespondersError, ServiceError, ServiceResponseError
from pynats_twisted.services import ServiceClient, ServiceConfig, ServiceDiscovery, ServiceRequest
from tests.services import schemas
from tests.support.integration import PATIENCE, IntegrationTestCase
from tests.support.peers import PeerProcess

ORDERS = "peer.do"
METADATA = {"made by": "a test"}


# --- the other side, in a process of its own -----------------------------------------------------------------


def _double(data: bytes) -> bytes:
    return b"%d" % (2 * int(data))


async def _nats_py(url: str) -> None:
    import nats
    from nats import micro
    from nats.micro import service as types
    from nats.micro.request import ServiceError as TheirError

    client = await nats.connect(url)
    service = await micro.add_service(client, name="theirs", version="2.1.0", description="from nats-py", metadata=METADATA)
    group = service.add_group(name="math")

    async def double(request: Any) -> None:
        await request.respond(_double(request.data), headers={"Kind": "number"})

    async def fail(request: Any) -> None:
        raise TheirError("404", "no such number")

    await group.add_endpoint(name="double", handler=double, metadata={"schema": "number"})
    await group.add_endpoint(name="fail", handler=fail)
    kinds: dict[str, Any] = {"PING": types.ServicePing, "INFO": types.ServiceInfo, "STATS": types.ServiceStats}

    async def discover(order: Any) -> Any:
        msg = await client.request(order["subject"])
        return kinds[order["verb"]].from_dict(json.loads(msg.data)).to_dict()

    async def request(order: Any) -> Any:
        msg = await client.request(order["subject"], order["data"].encode(), timeout=10)
        return [msg.data.decode(), dict(msg.headers or {})]

    await _serve(client, {"discover": discover, "request": request, "stop": lambda order: service.stop()})


async def _natsio(url: str) -> None:
    import natsio
    from natsio import micro

    client = await natsio.connect(url)
    service = await micro.add_service(client, name="theirs", version="2.1.0", description="from natsio", metadata=METADATA)
    group = service.add_group("math")

    async def double(request: Any) -> None:
        await request.respond(_double(request.data), headers={"Kind": "number"})

    async def fail(request: Any) -> None:
        await request.respond_error("404", "no such number")

    await group.add_endpoint("double", double, metadata={"schema": "number"})
    await group.add_endpoint("fail", fail)
    kinds: dict[str, Any] = {"PING": micro.PingResponse, "INFO": micro.InfoResponse, "STATS": micro.StatsResponse}

    async def discover(order: Any) -> Any:
        msg = await client.request(order["subject"])
        return kinds[order["verb"]].from_wire(json.loads(msg.payload)).to_wire()

    async def request(order: Any) -> Any:
        msg = await client.request(order["subject"], order["data"].encode(), timeout=10)
        return [msg.payload.decode(), dict(msg.headers.items()) if msg.headers else {}]

    await _serve(client, {"discover": discover, "request": request, "stop": lambda order: service.stop()})


async def _serve(client: Any, calls: dict[str, Any]) -> None:
    """Do what is told on ``peer.do``, until it is ``end``."""
    over = asyncio.Event()

    async def do(msg: Any) -> None:
        order = json.loads(msg.data)
        if order["do"] == "end":
            over.set()
            result = None
        else:
            result = await calls[order["do"]](order)
        await msg.respond(json.dumps(result, default=str).encode())

    subscribed = client.subscribe(ORDERS, cb=do)
    if asyncio.iscoroutine(subscribed):
        await subscribed
    await client.flush()
    print("ready", flush=True)
    await over.wait()
    await client.drain()


# --- this side -----------------------------------------------------------------------------------------------


class _Peers:
    """What holds with each of the other clients. :ivar peer: which one that is."""

    class Cases(IntegrationTestCase):
        peer: str

        async def begin(self) -> NatsClient:
            server = await self.start_server()
            nc = self.nc = await self.connect(server)
            self.process = PeerProcess()
            command = [sys.executable, "-m", "tests.integration.test_svc_interop", self.peer, server.url]
            checkout = str(Path(__file__).resolve().parents[2])
            transport = self.reactor.spawnProcess(self.process, sys.executable, command, env=None, path=checkout)
            self.addCleanup(self._kill, transport)
            await self.process.ready
            return nc

        async def _kill(self, transport: Any) -> None:
            if not self.process.ended.called:
                transport.signalProcess("KILL")
                self.process.ended.addErrback(lambda failure: None)
                await self.process.ended

        async def do(self, what: str, **order: Any) -> Any:
            return json.loads((await self.nc.request(ORDERS, json.dumps({"do": what, **order}).encode(), timeout=PATIENCE)).data)

        async def end(self) -> None:
            await self.do("end")
            await self.process.ended

        async def test_their_service(self) -> None:
            """A service of the peer is found, asked by the names of its endpoints, and its errors and statistics are read."""
            nc = await self.begin()
            discovery = ServiceDiscovery(nc)
            (ping,) = await discovery.ping()
            self.assertEqual((ping.name, ping.version, ping.metadata), ("theirs", "2.1.0", METADATA))
            (info,) = await discovery.info("theirs", ping.id)
            found = {each.name: (each.subject, each.queue_group, each.metadata.get("schema")) for each in info.endpoints}
            self.assertEqual(found, {"double": ("math.double", "q", "number"), "fail": ("math.fail", "q", None)})
            self.assertEqual(info.description, f"from {self.peer}")
            theirs = ServiceClient(nc, "theirs")
            msg = await theirs.request("double", b"21")
            self.assertEqual((msg.data, msg.headers["Kind"]), (b"42", "number"))
            error: Any = await self.assertFailure(theirs.request("fail"), ServiceResponseError)
            self.assertEqual((error.code, error.description), (404, "no such number"))
            (stats,) = await discovery.stats("theirs")
            self.assertEqual([each.num_requests for each in stats.endpoints], [1, 1])
            self.assertGreater(stats.endpoints[0].processing_time, 0)
            await self.do("stop")
            await self.assertFailure(nc.request("math.double", b"1"), NoRespondersError)
            await self.end()

        async def test_our_service(self) -> None:
            """A service of ours is found by the peer, which reads all that it tells, uses its endpoints, and gets its errors."""
            nc = await self.begin()
            config = ServiceConfig(
                "ours", "3.0.0-rc.1", description="from here", metadata=METADATA, stats_handler=lambda endpoint: {"a": 1}
            )
            service = await nc.add_service(config)

            async def double(request: ServiceRequest) -> bytes:
                return _double(request.data)

            def fail(request: ServiceRequest) -> None:
                raise ServiceError(409, "not today", b"tomorrow", {"More": "x"})

            group = service.add_group("ours.math")
            await group.add_endpoint("double", double, metadata={"schema": "number"})
            await group.add_endpoint("fail", fail, queue=None)
            self.assertEqual(await self.do("request", subject="ours.math.double", data="21"), ["42", {}])
            data, headers = await self.do("request", subject="ours.math.fail", data="")
            expected = {"Nats-Service-Error": "not today", "Nats-Service-Error-Code": "409", "More": "x"}
            self.assertEqual((data, headers), ("tomorrow", expected))
            _, headers = await self.do("request", subject="ours.math.double", data="x")
            self.assertEqual(headers["Nats-Service-Error-Code"], "500")
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            common = {"name": "ours", "id": service.id, "version": "3.0.0-rc.1", "metadata": METADATA}
            for verb in ("PING", "INFO", "STATS"):
                seen = [await self.do("discover", verb=verb, subject=f"$SRV.{verb}.ours{rest}") for rest in ("", f".{service.id}")]
                self.assertEqual({key: seen[0][key] for key in common}, common)
                self.assertEqual(seen[0], seen[1])
                if verb == "INFO":
                    self.assertEqual(seen[0]["description"], "from here")
                    self.assertEqual([each["subject"] for each in seen[0]["endpoints"]], ["ours.math.double", "ours.math.fail"])
                    self.assertEqual(seen[0]["endpoints"][0]["metadata"], {"schema": "number"})
                if verb == "STATS":
                    counted = [(each["num_requests"], each["num_errors"], each["last_error"]) for each in seen[0]["endpoints"]]
                    self.assertEqual(counted, [(2, 1, "500:internal error"), (1, 1, "409:not today")])
                    self.assertEqual([each["data"] for each in seen[0]["endpoints"]], [{"a": 1}] * 2)
                    self.assertGreater(seen[0]["endpoints"][0]["processing_time"], 0)
            await service.stop()
            await self.end()

        async def test_answers_keep_to_the_rules(self) -> None:
            """The answers of our service break no rule of the ADR's schemas and lack nothing; those of the peer can be read."""
            nc = await self.begin()
            service = await nc.add_service(ServiceConfig("ours", "3.0.0"))
            await service.add_endpoint("double", lambda request: _double(request.data))
            await nc.request("double", b"1")
            for verb in ("PING", "INFO", "STATS"):
                data = (await nc.request(f"$SRV.{verb}.ours")).data
                self.assertEqual((schemas.problems(verb, data), schemas.complete(verb, data)), ([], []))
            discovery = ServiceDiscovery(nc)
            for ask in (discovery.ping, discovery.info, discovery.stats):
                self.assertEqual(sorted(answer.name for answer in await ask()), ["ours", "theirs"])
            await service.stop()
            await self.end()


class NatsPyTests(_Peers.Cases):
    """With nats-py."""

    peer = "nats-py"


if sys.version_info >= (3, 13):

    class NatsioTests(_Peers.Cases):
        """With natsio, which needs Python 3.13."""

        peer = "natsio"


if __name__ == "__main__":
    asyncio.run({"nats-py": _nats_py, "natsio": _natsio}[sys.argv[1]](sys.argv[2]))
