"""A cluster of real nats-servers for tests."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pynats_twisted.errors import ConfigurationError, ServerProcessError
from pynats_twisted.testing.operations import LOG_TAIL, MONITOR_TIMEOUT, POLL, ServerOperations
from pynats_twisted.testing.process import BlockingServerProcess, ServerProcess
from pynats_twisted.testing.settings import ClusterMember, ServerOptions, ServerSettings, ServerTLS
from pynats_twisted.testing.steps import Pause, Steps, run_blocking, run_with_reactor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Server = TypeVar("_Server", bound=ServerOperations)
_T = TypeVar("_T")

FORM_TIMEOUT = 30.0
"""Seconds that a cluster may take to form. Without JetStream it takes a few hundredths, with JetStream up to some seconds."""


class _Cluster(abc.ABC, Generic[_Server]):
    """What both kinds of cluster have.

    :ivar servers: its servers, in the order in which they were added.
    """

    def __init__(self, size: int, config: str | Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
        if size < 1:
            raise ConfigurationError(f"size: found {size!r}; a cluster has one server or more")
        for option in ("port", "directory"):
            if options.get(option) is not None:
                raise ConfigurationError(f"{option}: the servers of a cluster cannot have the same one")
        settings = ServerSettings.from_keywords(config, options)
        self._name = settings.name or "test-cluster"
        self._jetstream = settings.jetstream is not False
        self._config = config
        self._options = {**options, "tls": _shared_authority(settings.server_tls), "monitoring": True}
        self._member = ClusterMember(name=self._name, routes=[])
        self._made = 0
        self.servers: list[_Server] = []
        for _ in range(size):
            self._add()

    @abc.abstractmethod
    def _make(self, config: str | Mapping[str, Any] | None, member: ClusterMember, options: Any) -> _Server:
        """A server of this cluster."""

    @abc.abstractmethod
    def _now(self) -> float:
        """Seconds of a clock that never goes back."""

    @property
    def urls(self) -> list[str]:
        """The URLs of all its servers."""
        return [server.url for server in self.servers]

    def log_tail(self, size: int = LOG_TAIL) -> str:
        """The last ``size`` bytes of each server's log, one below the other."""
        return "\n".join(f"{server!r}\n{server.log_tail(size)}" for server in self.servers)

    def _add(self) -> _Server:
        self._made += 1
        options = {**self._options, "name": f"{self._name}-{self._made}"}
        server = self._make(self._config, self._member, options)
        self.servers.append(server)
        return server

    def _starting(self) -> Steps[None]:
        try:
            # One after the other: servers that call each other at the same moment close one of the two connections, and with it
            # may forget what the other can store, until they hear of it again. Then a leader finds no peers for a stream.
            for server in self.servers:
                yield from server._starting()
            yield from self._forming()
        except BaseException:
            for server in self.servers:
                server._holdings.kill()
            raise

    def _forming(self, timeout: float = FORM_TIMEOUT) -> Steps[None]:
        deadline = self._now() + timeout
        for server in self.servers:
            while server.is_running and not (yield from self._is_member(server, deadline)):
                if self._now() > deadline:
                    raise ServerProcessError(f"the cluster did not form within {timeout} seconds", self.log_tail(LOG_TAIL // 4))
                yield Pause(POLL)

    def _is_member(self, server: _Server, deadline: float) -> Steps[bool]:
        """Whether a server knows all others that run, and gossips them to clients."""
        running = {each.host_port for each in self.servers if each.is_running}
        # A frozen server never answers.
        timeout = min(MONITOR_TIMEOUT, max(0.1, deadline - self._now()))
        routes = yield from server._looking("routez", timeout=timeout)
        if routes is None or len({route["remote_id"] for route in routes.get("routes") or ()}) != len(running) - 1:
            return False
        variables = yield from server._looking("varz", timeout=timeout)
        # A server on its own gossips nothing.
        if variables is None or (len(running) > 1 and set(variables.get("connect_urls") or ()) != running):
            return False
        if not self._jetstream:
            return True
        health = yield from server._looking("healthz", timeout=timeout)
        return health is not None and health.get("status") == "ok"

    def _adding(self) -> Steps[_Server]:
        server = self._add()
        yield from server._starting()
        yield from self._forming()
        return server

    def _removing(self, server: _Server) -> Steps[None]:
        self.servers.remove(server)
        self._member.routes.remove(f"nats://127.0.0.1:{server._holdings.ports['cluster'].port}")
        yield from server._closing()
        yield from self._forming()

    def _rolling(self, *, kill: bool, down: float, between: float) -> Steps[None]:
        for number, server in enumerate(list(self.servers)):
            if number and between > 0:
                yield Pause(between)
            yield from server._restarting(kill=kill, down=down)
            yield from self._forming()

    def _closing(self) -> Steps[None]:
        for server in self.servers:
            yield from server._closing()


def _shared_authority(tls: ServerTLS | None) -> ServerTLS | bool:
    """The TLS options with one authority for all servers, which clients then trust once."""
    if tls is None:
        return False
    if tls.authority is not None:
        return tls
    from pynats_twisted.testing.certificates import CertificateAuthority

    return dataclasses.replace(tls, authority=CertificateAuthority())


class ServerCluster(_Cluster[ServerProcess]):
    """Several nats-servers that know each other, for programs with a reactor.

    Each is a whole :class:`~pynats_twisted.testing.process.ServerProcess`, which can be killed, paused and so on by itself;
    :meth:`wait_formed` then waits until the cluster has recovered. All have monitoring, and with TLS one authority.

    :param reactor: the reactor.
    :param size: how many servers.
    :param config: more configuration of each server, as text or mapping.
    :param options: those of a server, without ``port`` and ``directory``; ``name`` is the cluster's name.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        size: int = 3,
        config: str | Mapping[str, Any] | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        self._reactor = reactor
        super().__init__(size, config, options)

    def _make(self, config: str | Mapping[str, Any] | None, member: ClusterMember, options: Any) -> ServerProcess:
        return ServerProcess(self._reactor, config, cluster_member=member, **options)

    def _now(self) -> float:
        return self._reactor.seconds()

    def _run(self, steps: Steps[_T]) -> Deferred[_T]:
        return run_with_reactor(self._reactor, steps)

    @staticmethod
    @contextlib.contextmanager
    def running(
        size: int = 3, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]
    ) -> Iterator[BlockingServerCluster]:
        """A started cluster for programs without a reactor, closed at the end of the ``with`` block."""
        cluster = BlockingServerCluster(size, config, **options)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()

    def start(self) -> Deferred[None]:
        """Start all servers; fires when the cluster has formed: every server knows all others, gossips them to clients, and
        (with JetStream) agrees with the leader.

        :raises ServerProcessError: a server did not start, or the cluster did not form.
        """
        return self._run(self._starting())

    def wait_formed(self, timeout: float = FORM_TIMEOUT) -> Deferred[None]:
        """Fires when the running servers are one cluster (again).

        :raises ServerProcessError: they are not after ``timeout`` seconds.
        """
        return self._run(self._forming(timeout))

    def add_server(self) -> Deferred[ServerProcess]:
        """Start one more server; fires with it when all know it."""
        return self._run(self._adding())

    def remove_server(self, server: ServerProcess) -> Deferred[None]:
        """Stop and close one server for good; fires when the others have noticed."""
        return self._run(self._removing(server))

    def rolling_restart(self, *, kill: bool = False, down: float = 0.0, between: float = 0.0) -> Deferred[None]:
        """Restart one server after the other, each when the cluster has formed again.

        :param kill: kill instead of stop.
        :param down: seconds that each stays down.
        :param between: seconds to wait before the next.
        """
        return self._run(self._rolling(kill=kill, down=down, between=between))

    def close(self) -> Deferred[None]:
        """Close all servers; see :meth:`~pynats_twisted.testing.process.ServerProcess.close`."""
        return self._run(self._closing())

    async def __aenter__(self) -> ServerCluster:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


class BlockingServerCluster(_Cluster[BlockingServerProcess]):
    """Several nats-servers that know each other, for programs without a reactor; see :class:`ServerCluster`."""

    def __init__(self, size: int = 3, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]) -> None:
        super().__init__(size, config, options)

    def _make(self, config: str | Mapping[str, Any] | None, member: ClusterMember, options: Any) -> BlockingServerProcess:
        return BlockingServerProcess(config, cluster_member=member, **options)

    def _now(self) -> float:
        return time.monotonic()

    def start(self) -> None:
        """Start all servers, and wait until the cluster has formed. See :meth:`ServerCluster.start`."""
        run_blocking(self._starting())

    def wait_formed(self, timeout: float = FORM_TIMEOUT) -> None:
        """Wait until the running servers are one cluster (again). See :meth:`ServerCluster.wait_formed`."""
        run_blocking(self._forming(timeout))

    def add_server(self) -> BlockingServerProcess:
        """Start one more server. See :meth:`ServerCluster.add_server`."""
        return run_blocking(self._adding())

    def remove_server(self, server: BlockingServerProcess) -> None:
        """Stop and close one server for good. See :meth:`ServerCluster.remove_server`."""
        run_blocking(self._removing(server))

    def rolling_restart(self, *, kill: bool = False, down: float = 0.0, between: float = 0.0) -> None:
        """Restart one server after the other. See :meth:`ServerCluster.rolling_restart`."""
        run_blocking(self._rolling(kill=kill, down=down, between=between))

    def close(self) -> None:
        """Close all servers."""
        run_blocking(self._closing())
