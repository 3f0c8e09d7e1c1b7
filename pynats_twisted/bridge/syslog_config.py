"""The configuration of ``syslog`` routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Literal

from pynats_twisted.bridge.config_errors import FieldProblem
from pynats_twisted.bridge.lines_base_config import LinesBaseConfig
from pynats_twisted.bridge.syslog_framing import SyslogFraming, SyslogFramingName

SYSLOG_ENDPOINT_RULE: Final = (
    '"udp:PORT" or "udp:PORT:interface=ADDRESS", or a Twisted server endpoint such as "tcp:6514" or '
    '"ssl:6514:privateKey=key.pem:certKey=cert.pem"'
)


class SyslogConfig(LinesBaseConfig, kw_only=True, frozen=True):
    """The keys of a ``syslog`` route, besides those of :class:`~pynats_twisted.bridge.lines_base_config.LinesBaseConfig`.

    :ivar endpoint: where messages come from; see :data:`SYSLOG_ENDPOINT_RULE`.
    :ivar subject: where they go. ``{facility}``, ``{severity}``, ``{hostname}``, ``{app}`` and ``{msgid}`` are from the message, ``{peer}``
        is the address of its sender; each as one token.
    :ivar format: ``json``: the parts of a message as a JSON object; ``raw``: the message as it came.
    :ivar framing: where a message ends in a TCP or TLS stream: ``octet-counted`` or ``newline``; ``auto`` (the default) sees for each
        message which of the two it is.
    :ivar on_too_long: ``truncate`` a longer message (the default), ``drop`` it, or ``close`` the connection.
    """

    endpoint_rule: ClassVar[str] = SYSLOG_ENDPOINT_RULE
    placeholders: ClassVar[tuple[str, ...]] = ("facility", "severity", "hostname", "app", "msgid")

    format: Literal["json", "raw"] = "json"
    framing: SyslogFramingName | None = None

    def framing_settings(self) -> SyslogFraming:
        """How messages are framed."""
        framing = "datagram" if self.kind == "udp" else self.framing or "auto"
        return SyslogFraming(framing=framing, max_length=self.max_length, on_too_long=self.on_too_long or "truncate")

    def find_problems(self) -> Iterable[FieldProblem]:
        yield from super().find_problems()
        if self.kind == "udp" and self.framing is not None:
            yield FieldProblem("framing", f'"{self.framing}" for UDP', "nothing: each datagram is a message")
