"""The base of the tests of the service side: a service and its caller, on a server in memory and in virtual time."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import NatsClient
from pynats_twisted.protocol.message import Msg
from pynats_twisted.services import Endpoint, Service, ServiceConfig, ServiceRequest
from pynats_twisted.services.groups import EndpointHolder
from pynats_twisted.testing import MemoryNetwork, connected_client


class ServedTestCase(SynchronousTestCase):
    """Each test has a client for services and one that calls them, which leave nothing behind.

    :ivar network: the time and the server. :ivar nc: the client of the services. :ivar caller: the other one.
    """

    server_options: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.nc: NatsClient = connected_client(self, network=self.network, server_options=self.server_options, **self.options).client
        self.caller: NatsClient = connected_client(self, network=self.network, **self.options).client

    def serve(self, name: str = "shop", version: str = "1.0.0", *, client: NatsClient | None = None, **options: Any) -> Service:
        """A service that the server has."""
        return self.network.run((client or self.nc).add_service(ServiceConfig(name, version, **options)))

    def endpoint(self, handler: Any, name: str = "do", *, service: EndpointHolder | None = None, **options: Any) -> Endpoint:
        """An endpoint that the server has, of a new service unless there is one."""
        holder = service if service is not None else self.serve()
        return self.network.run(holder.add_endpoint(name, handler, **options).confirmed())

    def ask(self, subject: str = "do", data: bytes = b"", **options: Any) -> Msg:
        """The answer to a request."""
        return self.network.run(self.caller.request(subject, data, **options))

    def begin(self, subject: str = "do", data: bytes = b"", **options: Any) -> Deferred[Msg]:
        """A request that has reached its handler, if there is one."""
        request = self.caller.request(subject, data, **options)
        self.network.advance()
        return request

    def ask_all(self, subject: str, data: bytes = b"") -> list[Msg]:
        """All answers to a request, in the order in which they come."""

        async def gather() -> list[Msg]:
            return [msg async for msg in self.caller.request_many(subject, data, timeout=1.0)]

        return self.network.run(gather())

    def json_of(self, subject: str) -> dict[str, Any]:
        """The one answer to a request, which is JSON."""
        (msg,) = self.ask_all(subject)
        found: dict[str, Any] = json.loads(msg.data)
        return found

    def on_server(self) -> list[str]:
        """The subjects that the server has subscriptions to, but for the inboxes of requests."""
        return [each.subject for each in self.network.server().subscriptions() if not each.subject.startswith("_INBOX.")]


def silent(request: ServiceRequest) -> None:
    """A handler that answers nothing."""


def error_of(msg: Msg) -> tuple[str | None, str | None]:
    """The code and the text of an error reply."""
    return msg.headers.get("Nats-Service-Error-Code"), msg.headers.get("Nats-Service-Error")
