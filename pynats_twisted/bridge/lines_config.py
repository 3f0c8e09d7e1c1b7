"""The configuration of ``lines-in`` routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from pynats_twisted.bridge.config import Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import PositiveDuration
from pynats_twisted.bridge.framing import FRAMING_RULE, FramingSettings, PartialPolicy, check_framing
from pynats_twisted.bridge.lines_base_config import LinesBaseConfig

LINES_ENDPOINT_RULE: Final = (
    'a Twisted server endpoint such as "tcp:9000" or "unix:/run/lines.sock", "udp:PORT" or "udp:PORT:interface=ADDRESS", '
    'or "client:" and a Twisted client endpoint, such as "client:tcp:device.lan:4001"'
)
MAX_REPLY: Final = 1024
"""Longest reply to a line, in bytes."""


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


class LinesInConfig(LinesBaseConfig, kw_only=True, frozen=True):
    """The keys of a ``lines-in`` route, besides those of :class:`~pynats_twisted.bridge.lines_base_config.LinesBaseConfig`.

    :ivar endpoint: where lines come from; see :data:`LINES_ENDPOINT_RULE`.
    :ivar subject: where they go. ``{peer}`` is the address of the peer, with ``-`` for its dots and colons.
    :ivar framing: where a line ends. By default ``newline``, and ``datagram`` for UDP.
    :ivar on_too_long: ``close`` the connection (the default), ``truncate`` or ``drop`` the line. UDP has nothing to close; there
        ``truncate`` is the default.
    :ivar on_partial: ``emit`` or ``drop`` a line whose end never came; by default it is dropped for framings that say their length.
    :ivar idle_flush: seconds of silence after which an unfinished line counts as partial; with ``framing = "idle"``, as whole.
    :ivar skip_empty: leave out empty lines.
    :ivar reply: what to write back, by default nothing.
    """

    endpoint_rule: ClassVar[str] = LINES_ENDPOINT_RULE
    can_dial: ClassVar[bool] = True

    framing: str | None = None
    on_partial: PartialPolicy | None = None
    idle_flush: PositiveDuration | None = None
    skip_empty: bool = False
    reply: LinesReply | None = None

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

    # --- rules -------------------------------------------------------------------------------------------------

    def find_problems(self) -> Iterable[FieldProblem]:
        yield from super().find_problems()
        yield from self._framing_problems()
        if self.kind == "udp":
            for key in ("reply", "idle_flush"):
                if getattr(self, key) is not None:
                    yield FieldProblem(key, "a value", "nothing: UDP has no connections")

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
