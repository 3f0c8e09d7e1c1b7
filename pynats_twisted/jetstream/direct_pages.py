"""Many messages by direct gets (ADR-31): asked for in pages, handed out one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..errors import (
    JetStreamApiError,
    JetStreamApiLevelError,
    JetStreamBadRequestError,
    JetStreamConfigError,
    JetStreamDecodeError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MessageNotFoundError,
    NoRespondersError,
    RequestTimeoutError,
    RequiredApiLevelError,
    TooManyResultsError,
)
from ..protocol.subjects import LiteralSubject
from .api import REQUIRED_LEVEL_HEADER, encode
from .checks import is_positive, is_whole
from .deferred import deferred
from .stored import from_direct_get, is_stored

if TYPE_CHECKING:
    from ..client.request_many import RequestMany
    from ..protocol.message import Msg
    from .api import MsgGetRequest
    from .context import JetStreamContext
    from .stored import StoredMsg

PAGE_MSGS = 1024
PAGE_BYTES = 4 * 1024 * 1024

NOT_FOUND = 404
END_OF_BATCH = 204

_PENDING = "Nats-Num-Pending"
_LAST = "Nats-Last-Sequence"
_UP_TO = "Nats-UpTo-Sequence"

_ERRORS: dict[int, type[JetStreamApiError]] = {
    NOT_FOUND: MessageNotFoundError,
    408: JetStreamBadRequestError,
    412: RequiredApiLevelError,
    413: TooManyResultsError,
    429: JetStreamTooManyRequestsError,
    500: JetStreamUnavailableError,
}

# How many times its timeout a page may take while messages come; then the rest is asked for anew.
_PATIENCE = 20

# How often a page that was damaged on its way is asked for without getting any further.
_TRIES = 3


def status_error(msg: Msg) -> Exception:
    """The error for a reply to a direct get that is no message; not raised."""
    status = msg.status
    if status is None or status == END_OF_BATCH:
        return JetStreamDecodeError(f"a reply to a direct get is neither a message nor an error: {msg!r}")
    return _ERRORS.get(status, JetStreamApiError)(status, 0, msg.status_text)


def nobody_answers(subject: str) -> JetStreamNotEnabledError:
    """The error for a direct get that reaches nobody."""
    text = f"nobody answers on {subject}: there is no such stream, it was not made with allow_direct, or JetStream is off"
    return JetStreamNotEnabledError(503, 0, text)


class DirectMessages(AsyncIterator["StoredMsg"], ABC):
    """Messages of a stream, for ``async for``. Several pages are asked for where one does not hold them all, each when the messages of
    the one before were taken.

    Replies may come from any server that has the stream, and from mirrors: what was published a moment ago may not be among them. What was
    lost on the way, with a connection or because too much waited, is asked for again.

    :ivar num_pending: messages that are still to come after the last page, as the server said at its end; None before.
    :ivar pages: how many were asked for. Each may come from another server.
    :ivar up_to_seq: of the last messages of subjects: everything up to this sequence was there already when they were looked for; 0 where
        nothing is known of that. None before the first page's end.

    Reading raises:

    :raises RequestTimeoutError: for ``timeout`` seconds no message came.
    :raises JetStreamApiLevelError: the server is older than 2.11.
    :raises JetStreamNotEnabledError: nobody answers, for example because the stream has not ``allow_direct``.
    :raises JetStreamBadRequestError: :raises JetStreamTooManyRequestsError: :raises JetStreamUnavailableError: the server said so.
    """

    def __init__(self, js: JetStreamContext, subject: str, page_msgs: int, page_bytes: int, timeout: float | None) -> None:
        for name, value in (("page_msgs", page_msgs), ("page_bytes", page_bytes)):
            if not is_whole(value, 1):
                raise JetStreamConfigError(name, value, "must be an integer of 1 or more")
        seconds = js.timeout if timeout is None else timeout
        if not is_positive(seconds):
            raise JetStreamConfigError("timeout", timeout, "must be a positive number of seconds")
        options = js.client.options
        self._js = js
        self._subject = subject
        # More than the client lets wait would be dropped.
        self._page_msgs = min(page_msgs, options.pending_msgs or page_msgs)
        self._page_bytes = min(page_bytes, (options.pending_bytes // 2) or page_bytes)
        self._timeout = seconds
        self._over = False
        # The page of now: its replies, what ended it, and the last sequence that it brought, None before the first.
        self._many: RequestMany | None = None
        self._end: Msg | None = None
        self._page_last: int | None = None
        # The last sequence of all pages.
        self._last = 0
        # Gaps since the last message.
        self._fruitless = 0
        self.num_pending: int | None = None
        self.pages = 0
        self.up_to_seq: int | None = None

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> DirectMessages:
        return self

    async def __anext__(self) -> StoredMsg:
        try:
            while not self._over:
                if self._many is None:
                    self._ask()
                stored = await self._take()
                if stored is not None and self._is_wanted(stored):
                    return stored
        except BaseException:
            self.cancel()
            raise
        raise StopAsyncIteration

    @deferred
    async def collect(self) -> list[StoredMsg]:
        """All that was not handed out yet. It costs less than to take one after the other."""
        found: list[StoredMsg] = []
        try:
            while not self._over:
                if self._many is None:
                    self._ask()
                stored = await self._take()
                if stored is not None and self._is_wanted(stored):
                    found.append(stored)
                many = self._many
                if many is None:
                    continue
                await many.ended()
                for msg in many.waiting():
                    stored = self._accept(msg)
                    if stored is None:
                        break
                    if self._is_wanted(stored):
                        found.append(stored)
        except BaseException:
            self.cancel()
            raise
        return found

    def cancel(self) -> None:
        """Take no more. Who leaves the loop early may call it; else the page that was asked for is received to its end and forgotten."""
        self._over = True
        self._leave_page()

    def _leave_page(self) -> None:
        many, self._many = self._many, None
        if many is not None:
            many.cancel()

    # --- a page ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        request = self._request()
        level = self._js.check_level(request)
        headers = {REQUIRED_LEVEL_HEADER: str(level)} if level else None
        self._end = self._page_last = None
        self.pages += 1
        self._many = self._js.client.request_many(
            LiteralSubject(self._subject),
            encode(request),
            headers,
            stall=self._timeout,
            timeout=self._timeout * _PATIENCE,
            sentinel=self._is_end,
        )

    def _is_end(self, msg: Msg) -> bool:
        if is_stored(msg):
            return False
        self._end = msg
        return True

    async def _take(self) -> StoredMsg | None:
        """The next message of the page; None when the page has ended, or has a gap."""
        assert self._many is not None
        following = self._many.__anext__()
        try:
            # Nothing may come at all, which is not what a stall is.
            msg = await (following if self._page_last is not None else self._in_time(following))
        except StopAsyncIteration:
            self._many = None
            if not self._over:
                await self._page_ended()
            return None
        except NoRespondersError:
            raise nobody_answers(self._subject) from None
        return self._accept(msg)

    def _accept(self, msg: Msg) -> StoredMsg | None:
        """A reply as the message that it brings; None when some before it are missing."""
        stored, added = from_direct_get(msg)
        if _PENDING not in added:
            raise JetStreamApiLevelError("direct get of several messages: needs API level 1 (server 2.11), the server has none", 1, 0)
        if added.get(_LAST) != str(self._page_last or 0):
            # Some before this one were lost. They come again, and it behind them.
            self._gap()
            return None
        self._page_last = self._last = stored.seq
        self._fruitless = 0
        return stored

    def _gap(self) -> None:
        self._leave_page()
        self._fruitless += 1
        if self._fruitless > _TRIES:
            text = f"the first message that the direct get on {self._subject!r} brings is lost each time; is it larger than pending_bytes?"
            raise RequestTimeoutError(text)

    def _in_time(self, following: Coroutine[Any, Any, Msg]) -> Deferred[Msg]:
        def on_timeout(result: Any, seconds: float) -> Any:
            raise RequestTimeoutError(f"no reply to the direct get on {self._subject!r} within {seconds:g} s")

        return Deferred.fromCoroutine(following).addTimeout(self._timeout, self._js.client.reactor, on_timeout)

    def _looked_up_to(self, seq: int) -> None:
        self.up_to_seq = seq if self.up_to_seq is None else min(self.up_to_seq, seq)

    async def _page_ended(self) -> None:
        end = self._end
        if end is None:
            # Its end was lost, and perhaps more.
            self.num_pending = None
            self._looked_up_to(0)
            self._check_complete()
            return
        if end.status != END_OF_BATCH:
            await self._refused(end)
            return
        try:
            pending, last = int(end.headers[_PENDING]), int(end.headers[_LAST])
            self._looked_up_to(int(end.headers.get(_UP_TO) or 0))
        except (KeyError, ValueError):
            raise JetStreamDecodeError(f"the end of a direct get has no numbers {_PENDING} and {_LAST}: {end!r}") from None
        self.num_pending = pending
        if self._page_last is None and pending:
            # Asking again would bring the same.
            raise JetStreamUnavailableError(500, 0, f"the server sent none of {pending} messages")
        if self._page_last is not None and last != self._page_last:
            # The last ones were lost.
            self.num_pending = None
        self._check_complete()

    # --- what differs ----------------------------------------------------------------------------------------

    @abstractmethod
    def _request(self) -> MsgGetRequest:
        """What the next page is asked for with."""

    @abstractmethod
    def _is_wanted(self, stored: StoredMsg) -> bool:
        """Whether a message that came is one to hand out."""

    @abstractmethod
    def _check_complete(self) -> None:
        """After a page: find out whether another one is needed. ``num_pending`` is None where the page is not known to be whole."""

    @abstractmethod
    async def _refused(self, end: Msg) -> None:
        """A page ended with a status that is not its usual end."""
