"""The keys that routes with peers which send lines have in common."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from math import inf
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from pynats_twisted.bridge.config import Flow, Positive, RouteConfig
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import KIB, PositiveByteSize, PositiveDuration
from pynats_twisted.bridge.framing import TooLongPolicy
from pynats_twisted.bridge.lines_endpoints import DIAL, Network, lines_endpoint_problem
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.errors import TemplateError

UDP_RETRY_FOR = 5.0
"""Seconds for which a datagram that no stream stores is tried, if the configuration does not say."""


class LinesBaseConfig(RouteConfig, kw_only=True, frozen=True):
    """What ``lines-in`` and ``syslog`` have in common.

    :ivar endpoint: where lines come from.
    :ivar subject: where they go; a template.
    :ivar max_length: the longest line, in bytes.
    :ivar on_too_long: ``close`` the connection, ``truncate`` or ``drop`` the line.
    :ivar confirm: ``none``: a line is done when it was handed to the NATS client; ``server``: when the NATS server has it;
        ``jetstream``: when a stream has stored it.
    :ivar window: lines of one connection that may be unconfirmed at a time.
    :ivar message_ids: with ``confirm = "jetstream"``: give each message a ``Nats-Msg-Id``, so that the stream stores one that had to be
        published again only once.
    :ivar retry_for: with ``confirm = "jetstream"``: seconds for which a line that no stream stores is tried; by default for as long as the
        bridge runs, and 5 seconds for UDP.
    :ivar allow: the addresses that may send, as networks (``10.0.0.0/8``); an empty list allows all.
    :ivar max_connections: connections at a time; more are closed at once.
    :ivar timeout: seconds without a byte after which a connection is closed; by default never.
    """

    #: The endpoints that the route type takes, in words.
    endpoint_rule: ClassVar[str]
    #: Whether it can connect to its peers.
    can_dial: ClassVar[bool] = False
    #: What fills the template besides ``{peer}``.
    placeholders: ClassVar[tuple[str, ...]] = ()

    endpoint: str
    subject: str
    max_length: PositiveByteSize = 64 * KIB
    on_too_long: TooLongPolicy | None = None
    confirm: Literal["none", "server", "jetstream"] = "server"
    window: Annotated[int, Meta(ge=1, le=65536)] = 256
    message_ids: bool = True
    retry_for: PositiveDuration | None = None
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
    def effective_retry_for(self) -> float:
        """``retry_for``, with its default."""
        if self.retry_for is not None:
            return self.retry_for
        return UDP_RETRY_FOR if self.kind == "udp" else inf

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

    def flows(self) -> Iterable[Flow]:
        return (Flow(self.nats, writes=(self.template().pattern,)),)

    # --- rules -------------------------------------------------------------------------------------------------

    def find_problems(self) -> Iterable[FieldProblem]:
        reason = lines_endpoint_problem(self.endpoint)
        if reason is None and self.kind == "client" and not self.can_dial:
            reason = "the bridge connects to no peers here"
        if reason is not None:
            yield FieldProblem("endpoint", f"{describe_found(self.endpoint)} ({reason})", self.endpoint_rule)
        try:
            self.template().check_names([*self.placeholders, *([] if self.is_unix else ["peer"])])
        except TemplateError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))
        yield from self._confirm_problems()
        yield from self._peer_problems()

    def _confirm_problems(self) -> Iterable[FieldProblem]:
        if self.confirm == "jetstream":
            return
        if self.retry_for is not None:
            yield FieldProblem("retry_for", "a duration", 'nothing: it is for confirm = "jetstream"')
        if not self.message_ids:
            yield FieldProblem("message_ids", "false", 'nothing: it is for confirm = "jetstream"')

    def _peer_problems(self) -> Iterable[FieldProblem]:
        for index, text in enumerate(self.allow):
            try:
                ip_network(text, strict=False)
            except ValueError:
                yield FieldProblem(f"allow.{index}", describe_found(text), 'a network, such as "10.0.0.0/8" or "::1/128"')
        if self.allow and (self.is_unix or self.kind == "client"):
            yield FieldProblem("allow", "networks", "nothing: the peers of this endpoint are not chosen by their address")
        if self.kind == "udp":
            if self.on_too_long == "close":
                yield FieldProblem("on_too_long", '"close" for UDP', '"truncate" or "drop": there is no connection to close')
            if self.timeout is not None:
                yield FieldProblem("timeout", "a value", "nothing: UDP has no connections")

    @property
    def is_unix(self) -> bool:
        """Whether peers have no addresses."""
        return self.endpoint.removeprefix(DIAL).startswith("unix:")
