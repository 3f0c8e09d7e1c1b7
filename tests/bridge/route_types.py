"""Route types for tests of the configuration and the service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from pynats_twisted.bridge.config import HTTPBinding, RouteConfig
from pynats_twisted.bridge.config_errors import FieldProblem
from pynats_twisted.bridge.config_types import KIB, ByteSize, FilePath, PositiveDuration, Secret
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
from pynats_twisted.errors import ConfigurationError


class Github(msgspec.Struct, tag="github", tag_field="scheme", kw_only=True, forbid_unknown_fields=True, frozen=True):
    secret: Secret


class Generic(msgspec.Struct, tag="hmac", tag_field="scheme", kw_only=True, forbid_unknown_fields=True, frozen=True):
    """An HMAC.

    :ivar header: the header with the signature.
    """

    header: str
    secrets: list[Secret]


class Auth(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    bearer: list[Secret] | None = None


class EchoConfig(RouteConfig, kw_only=True, frozen=True):
    """Echoes.

    :ivar subject: the subject to
        echo on.
    """

    subject: str
    timeout: PositiveDuration = 2.0
    max_body: ByteSize = 256 * KIB
    confirm: Literal["none", "server"] = "none"
    verify: Github | Generic | None = None
    auth: Auth | None = None
    ca: FilePath | None = None
    sizes: list[ByteSize] = msgspec.field(default_factory=list)
    pair: tuple[int, str] | None = None
    labels: dict[str, int] = msgspec.field(default_factory=dict)
    either: bool | list[str] = False
    listen: str = ""
    path: str = "/"
    methods: list[str] = msgspec.field(default_factory=lambda: ["GET"])
    endpoint: str = ""
    also_nats: str = "default"

    def find_problems(self) -> Iterable[FieldProblem]:
        if "{" in self.subject:
            yield FieldProblem("subject", f'"{self.subject}"', "a subject without braces")
        if self.auth is not None and self.verify is not None:
            yield FieldProblem("auth.bearer", "auth and verify", "one of them")

    def find_warnings(self) -> Iterable[FieldProblem]:
        if self.confirm == "none":
            yield FieldProblem("confirm", '"none"', "server")

    def nats_names(self) -> Iterable[tuple[str, str]]:
        return (("nats", self.nats), ("also_nats", self.also_nats))

    def http_bindings(self) -> Iterable[HTTPBinding]:
        return (HTTPBinding(self.listen, self.path, tuple(self.methods)),) if self.listen else ()

    def server_endpoints(self) -> Iterable[tuple[str, str]]:
        return (("endpoint", self.endpoint),) if self.endpoint else ()


@implementer(IRoute)
class EchoRoute(Service):
    """A route that writes down what is done to it."""

    type_name = "echo"

    def __init__(self, name: str, config: EchoConfig, context: RouteContext) -> None:
        self.name = name
        self.config = config
        self.context = context
        self.client = context.client(config.nats)
        self.calls: list[str] = []
        self.stopping: Deferred[None] = succeed(None)
        self.trouble: list[str] = []

    def guarantee(self) -> str:
        return f"Whatever is sent to {self.config.subject} comes back at most once."

    def problems(self) -> list[str]:
        return self.trouble

    def startService(self) -> None:
        super().startService()
        self.calls.append("start")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.calls.append("stop")
        return self.stopping


@implementer(IRouteFactory)
class EchoFactory:
    type_name = "echo"
    config_type = EchoConfig

    def make_route(self, name: str, config: Any, context: Any) -> EchoRoute:
        if config.subject == "unusable":
            raise ConfigurationError("nothing can be echoed there")
        return EchoRoute(name, config, context)


FACTORIES = [EchoFactory()]
