"""From what peers send to messages: what the peers of a route for lines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pynats_twisted.bridge.framers import MarkedFrame
from pynats_twisted.bridge.loops import PATH_HEADER
from pynats_twisted.bridge.window import Message
from pynats_twisted.protocol.headers import Headers

if TYPE_CHECKING:
    from pynats_twisted.bridge.activity import RouteActivity
    from pynats_twisted.bridge.framers import Count, Framer
    from pynats_twisted.bridge.framing import TooLongPolicy
    from pynats_twisted.bridge.lines_endpoints import AllowList
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.publishing import PublishLane
    from pynats_twisted.bridge.subjects import SubjectTemplate

PARTIAL_HEADER: Final = "Nats-Bridge-Partial"
TRUNCATED_HEADER: Final = "Nats-Bridge-Truncated"

# An address as one token of a subject, as the HTTP routes write it.
_AS_TOKEN: Final = str.maketrans(".:%", "---")


def as_token(address: str) -> str:
    """An address as one token of a subject, with ``-`` for its dots and colons."""
    return address.translate(_AS_TOKEN)


class Framing(Protocol):
    """What makes framers: :class:`~pynats_twisted.bridge.framing.FramingSettings`, and others like it."""

    @property
    def max_length(self) -> int:
        """The longest frame, in bytes."""

    @property
    def on_too_long(self) -> TooLongPolicy:
        """What happens to longer ones."""

    def make(self, count: Count | None = None) -> Framer:
        """A framer for one peer."""


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """What the peers of one route share.

    :ivar path: the path that messages begin with, against loops.
    :ivar report: counts and logs bad input: ``report(reason, detail)``.
    :ivar activity: is told of the hops of messages.
    :ivar lines: what makes messages of the frames of a peer; is called with these settings and the peer's address.
    """

    reactor: Any
    path: str
    lane: PublishLane
    metrics: RouteMetrics
    activity: RouteActivity
    report: Callable[[str, str], None]
    lines: Callable[[LineSettings, str | None], PeerMessages]
    framing: Framing
    subject: SubjectTemplate
    allow: AllowList
    reply_ok: bytes = b""
    reply_error: bytes = b""
    idle_flush: float | None = None
    timeout: float | None = None


class PeerMessages:
    """From the frames of a peer to messages, and from what is odd about them to counts. Subclasses make the messages.

    :param peer: the address of the peer, or None where it has none.

    :ivar token: the address as a token of a subject, or None.
    """

    def __init__(self, settings: LineSettings, peer: str | None) -> None:
        self.settings = settings
        self.peer = peer
        self.token = as_token(peer) if peer is not None else None
        self._headers = Headers({PATH_HEADER: settings.path})

    def messages(self, frames: list[bytes]) -> list[Message]:
        """The messages for frames."""
        made = self._make(frames)
        activity = self.settings.activity
        if activity.watched:
            for subject, payload, headers in made:
                activity.hop("received", subject, data=payload, headers=headers, peer=self.peer or "local")
        return made

    def _make(self, frames: list[bytes]) -> list[Message]:
        raise AssertionError("every kind of peer makes its messages")

    def _marked(self, frame: bytes, plain: Headers) -> Headers:
        """The headers of a frame that may be marked: those of plain ones, and its marks."""
        headers = plain.copy()
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


class Lines(PeerMessages):
    """The peer of a ``lines-in`` route: all of its lines go to one subject, as they are.

    :raises TemplateValueError: the address cannot be a token of the subject.
    """

    def __init__(self, settings: LineSettings, peer: str | None) -> None:
        super().__init__(settings, peer)
        self._subject = settings.subject.expand({} if self.token is None else {"peer": self.token})

    def _make(self, frames: list[bytes]) -> list[Message]:
        subject, headers = self._subject, self._headers
        return [Message(subject, frame, headers if frame.__class__ is bytes else self._marked(frame, headers)) for frame in frames]
