"""The configuration of ``lines-in`` routes, and the endpoints that they understand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorPluggableNameResolver
from zope.interface import implementer

from pynats_twisted.bridge.config import Positive, RouteConfig, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import KIB, PositiveByteSize, PositiveDuration
from pynats_twisted.bridge.endpoints import ListenAddress, endpoint_problem, listen_address
from pynats_twisted.bridge.framing import FRAMING_RULE, FramingSettings, PartialPolicy, TooLongPolicy, check_framing
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.errors import TemplateError

DIAL: Final = "client:"
"""What an endpoint begins with that the bridge connects to instead of listening on it."""

LINES_ENDPOINT_RULE: Final = (
    'a Twisted server endpoint such as "tcp:9000" or "unix:/run/lines.sock", "udp:PORT" or "udp:PORT:interface=ADDRESS", '
    'or "client:" and a Twisted client endpoint, such as "client:tcp:device.lan:4001"'
)
MAX_REPLY: Final = 1024
"""Longest reply to a line, in bytes."""

Network = IPv4Network | IPv6Network

_UDP = re.compile(r"udp:(?:port=)?[0-9]+(?::(?:interface=)?(?:[^:\\=]|\\.)*)?")


class LinesReply(Section, kw_only=True, frozen=True):
    """``reply``: what a peer is told of each of its lines, in their order.

    :ivar ok: written when the line has reached the route's ``confirm``; an empty text writes nothing.
    :ivar error: written when it will not, and before a connection is closed for what its peer sent.
    """

    ok: str = ""
    error: str = ""

    def find_problems(self) -> Iterable[FieldProblem]:
        for key, text in (("ok", self.ok), ("error", self.error)):
            if len(text.encode()) > MAX_REPLY:
                yield FieldProblem(key, f"a text of {len(text.encode())} bytes", f"at most {MAX_REPLY} bytes")
        if not self.ok and not self.error:
            yield FieldProblem("", "neither ok nor error", 'at least one of them, for example { ok = "OK\\n" }')


class LinesInConfig(RouteConfig, kw_only=True, frozen=True):
    """The keys of a ``lines-in`` route.

    :ivar endpoint: where lines come from; see :data:`LINES_ENDPOINT_RULE`.
    :ivar subject: where they go. ``{peer}`` is the address of the peer, with ``-`` for its dots and colons.
    :ivar framing: where a line ends. By default ``newline``, and ``datagram`` for UDP.
    :ivar max_length: the longest line, in bytes.
    :ivar on_too_long: ``close`` the connection (the default), ``truncate`` or ``drop`` the line. UDP has nothing to close; there
        ``truncate`` is the default.
    :ivar on_partial: ``emit`` or ``drop`` a line whose end never came; by default it is dropped for framings that say their length.
    :ivar idle_flush: seconds of silence after which an unfinished line counts as partial; with ``framing = "idle"``, as whole.
    :ivar skip_empty: leave out empty lines.
    :ivar confirm: ``none``: a line is done when it was handed to the NATS client; ``server``: when the NATS server has it.
    :ivar window: lines of one connection that may be unconfirmed at a time.
    :ivar reply: what to write back, by default nothing.
    :ivar allow: the addresses that may send, as networks (``10.0.0.0/8``); an empty list allows all.
    :ivar max_connections: connections at a time; more are closed at once.
    :ivar timeout: seconds without a byte after which a connection is closed; by default never.
    """

    endpoint: str
    subject: str
    framing: str | None = None
    max_length: PositiveByteSize = 64 * KIB
    on_too_long: TooLongPolicy | None = None
    on_partial: PartialPolicy | None = None
    idle_flush: PositiveDuration | None = None
    skip_empty: bool = False
    confirm: Literal["none", "server", "jetstream"] = "server"
    window: Annotated[int, Meta(ge=1, le=65536)] = 256
    reply: LinesReply | None = None
    allow: list[str] = field(default_factory=list)
    max_connections: Positive = 1000
    timeout: PositiveDuration | None = None

    @property
    def kind(self) -> Literal["udp", "client", "server"]:
        """How lines come in."""
        if self.endpoint.startswith("udp:"):
            return "udp"
        return "client" if self.endpoint.startswith(DIAL) else "server"

    @property
    def effective_framing(self) -> str:
        """The framing, with its default."""
        return self.framing or ("datagram" if self.kind == "udp" else "newline")

    def framing_settings(self) -> FramingSettings:
        """How lines are framed.

        :raises ValueError: the framing does not exist.
        """
        return FramingSettings(
            framing=self.effective_framing,
            max_length=self.max_length,
            on_too_long=self.on_too_long or ("truncate" if self.kind == "udp" else "close"),
            on_partial=self.on_partial,
            skip_empty=self.skip_empty,
        )

    def template(self) -> SubjectTemplate:
        """The subject as a template.

        :raises TemplateError: it breaks a rule.
        """
        return SubjectTemplate(self.subject)

    def networks(self) -> tuple[Network, ...]:
        """The networks of ``allow``.

        :raises ValueError: one is no network.
        """
        return tuple(ip_network(text, strict=False) for text in self.allow)

    def server_endpoints(self) -> Iterable[tuple[str, str]]:
        return () if self.kind == "client" else (("endpoint", self.endpoint),)

    # --- rules -------------------------------------------------------------------------------------------------

    def find_problems(self) -> Iterable[FieldProblem]:
        reason = lines_endpoint_problem(self.endpoint)
        if reason is not None:
            yield FieldProblem("endpoint", f"{describe_found(self.endpoint)} ({reason})", LINES_ENDPOINT_RULE)
        if self.confirm == "jetstream":
            yield FieldProblem("confirm", '"jetstream"', '"none" or "server"; lines cannot be confirmed by JetStream in this version')
        yield from self._subject_problems()
        yield from self._framing_problems()
        yield from self._peer_problems()

    def _subject_problems(self) -> Iterable[FieldProblem]:
        try:
            self.template().check_names([] if self._is_unix else ["peer"])
        except TemplateError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))

    def _framing_problems(self) -> Iterable[FieldProblem]:
        try:
            check_framing(self.effective_framing)
        except ValueError:
            yield FieldProblem("framing", describe_found(self.framing), FRAMING_RULE)
            return
        is_udp = self.kind == "udp"
        if self.effective_framing == "datagram" and not is_udp:
            yield FieldProblem("framing", '"datagram" for a stream of bytes', 'another framing, or an endpoint "udp:PORT"')
        if self.effective_framing == "idle" and is_udp:
            yield FieldProblem("framing", '"idle" for UDP', "a framing that ends within a datagram")
        if self.effective_framing == "idle" and self.idle_flush is None:
            yield FieldProblem("idle_flush", "nothing", 'a duration: with framing = "idle" silence is what ends a line')
        if is_udp and self.on_too_long == "close":
            yield FieldProblem("on_too_long", '"close" for UDP', '"truncate" or "drop": there is no connection to close')

    def _peer_problems(self) -> Iterable[FieldProblem]:
        for index, text in enumerate(self.allow):
            try:
                ip_network(text, strict=False)
            except ValueError:
                yield FieldProblem(f"allow.{index}", describe_found(text), 'a network, such as "10.0.0.0/8" or "::1/128"')
        if self.allow and (self._is_unix or self.kind == "client"):
            yield FieldProblem("allow", "networks", "nothing: the peers of this endpoint are not chosen by their address")
        if self.kind == "udp":
            for key in ("reply", "timeout", "idle_flush"):
                if getattr(self, key) is not None:
                    yield FieldProblem(key, "a value", "nothing: UDP has no connections")

    @property
    def _is_unix(self) -> bool:
        return self.endpoint.removeprefix(DIAL).startswith("unix:")


@implementer(IReactorPluggableNameResolver)
class _NoReactor:
    """Stands for a reactor while an endpoint string is only read."""

    nameResolver: Any = None  # noqa: N815

    def installNameResolver(self, resolver: Any) -> Any:  # noqa: N802
        """Nothing is resolved here."""
        return resolver


def lines_endpoint_problem(description: str) -> str | None:
    """Why *description* is no endpoint that lines can come from, in words; None when it is one. Opens nothing."""
    if description.startswith("udp:"):
        if _UDP.fullmatch(description) is None:
            return "not of the form udp:PORT:interface=ADDRESS"
        try:
            udp_address(description)
        except ValueError as error:
            return str(error)
        return None
    if not description.startswith(DIAL):
        return endpoint_problem(description)
    try:
        clientFromString(_NoReactor(), description.removeprefix(DIAL))
    except Exception as error:  # noqa: BLE001
        # A parser is a plugin of anybody: whatever it raises says that this description is not one of its own.
        return f"{type(error).__name__}: {error}"
    return None


def udp_address(description: str) -> ListenAddress:
    """Where a ``udp:`` endpoint listens.

    :raises ValueError: the port is no port, or the interface no IP address.
    """
    address = listen_address(description)
    if address is None or address.family != "udp":
        raise ValueError("no udp: endpoint")
    if address.host:
        ip_address(address.host)
    return address


class AllowList:
    """Which addresses may send.

    :param networks: the networks; with none, every address may.
    """

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks

    def allows(self, host: str | None) -> bool:
        """Whether a peer with this address may; one without an address (``None``) may only where every one may."""
        if not self._networks:
            return True
        if host is None:
            return False
        address = ip_address(plain_host(host).partition("%")[0])
        return any(address in network for network in self._networks)


def plain_host(host: str) -> str:
    """An IPv4 address that came as an IPv6 one (``::ffff:10.0.0.1``) in its own form; others as they are."""
    if host.lower().startswith("::ffff:"):
        mapped = IPv6Address(host.partition("%")[0]).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return host
