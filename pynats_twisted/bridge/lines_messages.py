"""From what peers send to messages: what the peers of a ``lines-in`` route share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from pynats_twisted.bridge.framers import MarkedFrame
from pynats_twisted.bridge.window import Message
from pynats_twisted.protocol.headers import Headers

if TYPE_CHECKING:
    from pynats_twisted.bridge.framing import FramingSettings
    from pynats_twisted.bridge.lines_config import AllowList
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.publishing import PublishLane
    from pynats_twisted.bridge.subjects import SubjectTemplate

PATH_HEADER: Final = "Nats-Bridge-Path"
PARTIAL_HEADER: Final = "Nats-Bridge-Partial"
TRUNCATED_HEADER: Final = "Nats-Bridge-Truncated"

# An address as one token of a subject, as the HTTP routes write it.
_AS_TOKEN: Final = str.maketrans(".:%", "---")


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """What the peers of one route share.

    :ivar route: the route's name, for the log.
    :ivar bridge_name: the bridge's name, for the header against loops.
    :ivar report: counts and logs bad input: ``report(reason, detail)``.
    """

    reactor: Any
    route: str
    bridge_name: str
    lane: PublishLane
    metrics: RouteMetrics
    report: Callable[[str, str], None]
    framing: FramingSettings
    subject: SubjectTemplate
    allow: AllowList
    reply_ok: bytes = b""
    reply_error: bytes = b""
    idle_flush: float | None = None
    timeout: float | None = None
    debug: bool = False


class Lines:
    """From the frames of a peer to messages, and from what is odd about them to counts.

    :param peer: the address of the peer, or None where it has none.
    :raises TemplateValueError: the address cannot be a token of the subject.
    """

    _log = Logger()

    def __init__(self, settings: LineSettings, peer: str | None) -> None:
        self.settings = settings
        self.peer = peer
        self.subject = settings.subject.expand({} if peer is None else {"peer": peer.translate(_AS_TOKEN)})
        self._headers = Headers({PATH_HEADER: settings.bridge_name})

    def messages(self, frames: list[bytes]) -> list[Message]:
        """The messages for frames."""
        subject, headers = self.subject, self._headers
        made = [Message(subject, frame, headers if frame.__class__ is bytes else self._marked(frame)) for frame in frames]
        if self.settings.debug:
            for message in made:
                self._log.info(
                    "route {route}: {size} bytes from {peer} to {subject}",
                    route=self.settings.route,
                    size=len(message.payload),
                    peer=self.peer or "a local peer",
                    subject=subject,
                )
        return made

    def _marked(self, frame: bytes) -> Headers:
        headers = self._headers.copy()
        if isinstance(frame, MarkedFrame):
            if frame.partial:
                headers[PARTIAL_HEADER] = "1"
            if frame.original_length:
                headers[TRUNCATED_HEADER] = str(frame.original_length)
        return headers

    def count(self, what: str, amount: int) -> None:
        """Count what a framer did out of the ordinary."""
        metrics = self.settings.metrics
        if what == "too-long":
            framing = self.settings.framing
            self.report("too-long", f"a line is longer than {framing.max_length} bytes")
            if framing.on_too_long == "drop":
                metrics.dropped("too-long", amount)
        elif what == "partial":
            metrics.bad_input("partial", amount)
        elif what == "partial-dropped":
            metrics.dropped("partial", amount)
        elif what == "empty":
            metrics.dropped("empty", amount)

    def report(self, reason: str, detail: str) -> None:
        """Report bad input of this peer."""
        self.settings.report(reason, f"{self.peer}: {detail}" if self.peer else detail)
