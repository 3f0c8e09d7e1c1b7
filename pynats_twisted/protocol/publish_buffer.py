"""What was published and has not left yet, as frames. The readable definition of what is right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NatsError, OutboundBufferFullError
from .encoder import PublishEncoder

if TYPE_CHECKING:
    from .encoder import Payload
    from .headers import HeadersLike

_UNBOUNDED = 1 << 62


class Done:
    """An awaitable that is done, for all callers alike."""

    __slots__ = ()
    # Found on the class and called without arguments: awaiting it runs no Python code.
    __await__: Callable[[], Iterator[Any]] = ().__iter__

    def __repr__(self) -> str:
        return "<done>"


DONE: Awaitable[None] = Done()  # type: ignore[assignment]


class PublishBuffer:
    """Gathers frames for whoever carries them away, its subclass: :meth:`_first` is called when something waits that nobody is
    about to fetch, :meth:`_crowded` when much does.

    :param encoder: it knows the limits of the server.
    :ivar pending: bytes that wait. A subclass may count what it has taken and not passed on.
    :ivar accepted: publishes that were taken; :ivar accepted_bytes: their bytes.
    :ivar bound: bytes of which no publish may make more wait.
    :ivar crowded_at: from so many waiting bytes on, each publish asks :meth:`_crowded` for its result.
    :ivar armed: somebody is about to fetch what waits, or nobody can; :meth:`_first` is not called.
    :ivar refusal: the error that every publish gets, or None.
    """

    __slots__ = ("_parts", "accepted", "accepted_bytes", "armed", "bound", "crowded_at", "encoder", "pending", "refusal")

    def __init__(self, encoder: PublishEncoder) -> None:
        self.encoder = encoder
        self.pending = 0
        self.accepted = 0
        self.accepted_bytes = 0
        self.bound = _UNBOUNDED
        self.crowded_at = _UNBOUNDED
        self.armed = True
        self.refusal: NatsError | None = None
        self._parts: list[bytes] = []

    def publish(
        self, subject: str, payload: Payload = b"", reply: str | None = None, headers: HeadersLike | None = None
    ) -> Awaitable[None]:
        """Take a publish; what :meth:`PublishEncoder.encode` raises is raised here.

        :returns: something to await: done, or what :meth:`_crowded` gave.
        :raises OutboundBufferFullError: it would pass the bound; nothing was taken.
        """
        if self.refusal is not None:
            # The same object each time: without this its traceback would grow with each raise.
            raise self.refusal.with_traceback(None)
        parts = self._parts
        size = self.encoder.encode(parts, subject, payload, reply, headers)
        pending = self.pending + size
        if pending > self.bound:
            del parts[-3:]
            raise OutboundBufferFullError(self.pending, size, self.bound)
        self.pending = pending
        self.accepted += 1
        self.accepted_bytes += size
        if not self.armed:
            self._first()
        if pending >= self.crowded_at:
            return self._crowded()
        return DONE

    def add(self, lines: bytes) -> None:
        """Take lines that are not a publish. No bound holds for them."""
        self._parts.append(lines)
        self.pending += len(lines)
        if not self.armed:
            self._first()

    def take(self) -> list[bytes]:
        """Everything that gathered since the last call, whole frames in pieces, in order. The list is the caller's."""
        parts, self._parts = self._parts, []
        return parts

    def _first(self) -> None:
        """Something waits that nobody is about to fetch."""

    def _crowded(self) -> Awaitable[None]:
        """Much waits."""
        return DONE
