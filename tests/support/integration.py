"""The base of all tests with real servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from pynats_twisted.testing import ServerCluster, ServerProcess
from tests.support.proxy import ChaosProxy
from tests.support.witness import Witness

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pynats_twisted import NatsClient
    from pynats_twisted.testing.settings import ServerOptions

# Seconds that something may take before a test fails that waits for it: only what never happens takes so long, on however busy a machine.
PATIENCE = 30.0


class IntegrationTestCase(TestCase):
    """A trial test with real servers, which are closed after the test, together with all that was made with these helpers.

    The end of each server's log goes to trial's log (``_trial_temp/test.log``), below the name of the test. A missing server
    program fails the test.
    """

    timeout = 180
    log = Logger()

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self._logged: list[ServerProcess] = []

    async def start_server(self, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]) -> ServerProcess:
        """A started server; the options are those of :class:`~pynats_twisted.testing.ServerProcess`."""
        server = self.make_server(config, **options)
        return await server.start()

    def make_server(self, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]) -> ServerProcess:
        """A server that is not started yet: its port is known and refuses."""
        server = ServerProcess(self.reactor, config, **options)
        self._logged.append(server)
        self.addCleanup(self._close_server, server)
        return server

    async def start_cluster(
        self, size: int = 3, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]
    ) -> ServerCluster:
        """A started cluster; the options are those of :class:`~pynats_twisted.testing.ServerCluster`."""
        cluster = ServerCluster(self.reactor, size, config, **options)
        self.addCleanup(self._close_cluster, cluster)
        self._logged += cluster.servers
        await cluster.start()
        return cluster

    async def start_proxy(self, server: ServerProcess) -> ChaosProxy:
        """A proxy before a server, accepting."""
        proxy = ChaosProxy(self.reactor, server.port, server.host)
        self.addCleanup(proxy.close)
        return await proxy.accept()

    def witness(self, server: ServerProcess, *subjects: str, **options: Any) -> Witness:
        """A witness connected to the server itself, subscribed to ``subjects``."""
        witness = Witness(server.url, **options)
        self.addCleanup(witness.close)
        for subject in subjects:
            witness.subscribe(subject)
        return witness

    async def connect(self, servers: ServerProcess | ServerCluster | ChaosProxy | str | list[str], **options: Any) -> NatsClient:
        """A connected client of the package. The options are those of the client."""
        from pynats_twisted import connect

        urls: str | list[str]
        if isinstance(servers, ServerCluster):
            urls = servers.urls
        elif isinstance(servers, (ServerProcess, ChaosProxy)):
            urls = servers.url
        else:
            urls = servers
        client = await connect(self.reactor, urls, **options)
        self.addCleanup(client.close)
        return client

    async def until(self, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "") -> None:
        """Wait until ``condition()`` is true; the test fails when it is not within ``timeout`` seconds."""
        deadline = self.reactor.seconds() + timeout
        while not condition():
            if self.reactor.seconds() > deadline:
                logs = "\n".join(f"{server!r}\n{server.log_tail(2048)}" for server in self._logged)
                self.fail(f"{what or 'the condition'} did not become true within {timeout} s\n{logs}")
            await self.sleep(0.005)

    async def sleep(self, seconds: float) -> None:
        """Let time pass. Only for tests that show that something does not happen; else use :meth:`until`."""
        await deferLater(self.reactor, seconds)

    def _log(self, server: ServerProcess) -> None:
        self.log.info("{server}\n{tail}", server=server, tail=server.log_tail())

    async def _close_server(self, server: ServerProcess) -> None:
        self._log(server)
        await server.close()

    async def _close_cluster(self, cluster: ServerCluster) -> None:
        for server in cluster.servers:
            self._log(server)
        await cluster.close()
