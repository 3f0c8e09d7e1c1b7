"""Watching subjects of a stream: what is stored, a sign that this was all, then what is new."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred

from ..client.waiting import OneShot, check_seconds
from ..errors import InvalidArgumentError, StreamNotFoundError, SubscriptionClosedError
from ..protocol.subjects import matches
from .api import DeliverPolicy, check_subject, collide, is_subset
from .checks import check_count
from .deferred import deferred
from .ordered import OrderedConsumer

if TYPE_CHECKING:
    from .context import JetStreamContext
    from .message import JsMsg

_POLICIES = frozenset({DeliverPolicy.LAST_PER_SUBJECT, DeliverPolicy.ALL, DeliverPolicy.NEW})


class SubjectWatch(AsyncIterator["JsMsg | None"]):
    """The messages of some subjects, each once and in order, with None where everything has come that was stored when it began.

    None comes exactly once, however it begins: at once when nothing is stored or only what is new is wanted, and also when other
    messages are stored faster than they can be read. It heals itself as an
    :class:`~pynats_twisted.jetstream.ordered.OrderedConsumer` does. Until :meth:`stop`, there is a consumer at the server: use
    ``async with``, or stop it.

    With ``LAST_PER_SUBJECT``, messages come in the order in which they were stored, and so never one behind a newer one of its subject.
    When the server's consumer is lost before None, older messages of a subject that has not come yet may come before its last one.

    :param js: through which it asks.
    :param stream_name: the stream.
    :param filters: the subjects, which may have wildcards and overlap; all when it is empty.
    :param deliver_policy: begin with the last message of each subject, with all messages, or with what is new.
    :param start_seq: instead: begin with all messages from this sequence on.
    :param headers_only: without payloads, with their sizes in ``Nats-Msg-Size``.
    :param not_found: makes the error that is raised in the place of a StreamNotFoundError: for what is built on the stream.
    :raises InvalidArgumentError: the policy is another one, or the sequence is below 1.
    :raises InvalidSubjectError: a filter breaks a rule.
    :raises InvalidNameError: the name of the stream does.

    :ivar js: through which it asks.
    :ivar stream_name: the stream.
    :ivar is_initial_done: None was handed out.
    """

    def __init__(
        self,
        js: JetStreamContext,
        stream_name: str,
        filters: Sequence[str],
        *,
        deliver_policy: DeliverPolicy = DeliverPolicy.LAST_PER_SUBJECT,
        start_seq: int | None = None,
        headers_only: bool = False,
        not_found: Callable[[], BaseException] | None = None,
    ) -> None:
        if start_seq is None and deliver_policy not in _POLICIES:
            raise InvalidArgumentError(f"deliver_policy={deliver_policy!r} must be LAST_PER_SUBJECT, ALL or NEW")
        if start_seq is not None:
            check_count("start_seq", start_seq)
        asked = separate_filters(filters)
        self.js = js
        self.stream_name = stream_name
        self.is_initial_done = False
        # What is asked for is more than what is wanted where filters overlap in part.
        self._wanted = None if set(asked) <= set(filters) else tuple(filters)
        self._ordered = OrderedConsumer.make(
            js,
            stream_name,
            filter_subjects=asked,
            deliver_policy=None if start_seq is not None else deliver_policy,
            start_seq=start_seq,
            headers_only=headers_only,
        )
        self._not_found = not_found
        self._reactor = js.client.reactor
        self._buffer = self._ordered.buffer
        self._only_new = start_seq is None and deliver_policy == DeliverPolicy.NEW
        self._goal = self._buffer.add_goal()
        # Messages of which one may have been stored when it began, and the resets up to which that was counted.
        self._left: int | None = None
        self._resets = 0
        self._initial = OneShot()
        self._is_over = False

    def __repr__(self) -> str:
        return f"<SubjectWatch of stream {self.stream_name!r} at {self.position}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The sequence in the stream of the message that was taken last; 0 before."""
        return self._ordered.position

    @property
    def num_pending(self) -> int | None:
        """Messages that were not taken yet, as far as the server has said; None before it did."""
        return self._ordered.num_pending

    @property
    def resets(self) -> int:
        """How many of the server's consumers were lost."""
        return self._ordered.resets

    @property
    def last_reset(self) -> str:
        """Why the last one that was lost was lost, or could not be made; ``""`` when none was."""
        return self._ordered.last_reset

    @property
    def is_caught_up(self) -> bool:
        """Everything was taken that is stored, as far as the server has said, and its consumer is in use."""
        return self.is_initial_done and self._buffer.is_reading and self.num_pending == 0

    def now(self) -> float:
        """The time of the reactor, in seconds."""
        seconds: float = self._reactor.seconds()
        return seconds

    @property
    def initial_done(self) -> Deferred[None]:
        """Fires when None has been handed out; a new Deferred each time.

        :raises SubscriptionClosedError: it ended before.
        """
        return self._initial.wait()

    # --- beginning and stopping ------------------------------------------------------------------------------

    def __await__(self) -> Generator[Deferred[Any], Any, SubjectWatch]:
        return self.ready().__await__()

    @deferred
    async def ready(self) -> SubjectWatch:
        """Begin, and fire with this object when the server has a consumer for it.

        :raises StreamNotFoundError: there is no such stream.
        :raises JetStreamApiError: the server refuses for another reason.
        :raises SubscriptionClosedError: it was stopped, or the client was closed.
        """
        if self._is_over:
            raise self._closed()
        try:
            await self._ordered.ready()
        except StreamNotFoundError as error:
            raise self._named(error) from None
        self._count()
        return self

    def stop(self) -> Deferred[None]:
        """Hand out nothing more, for good: who waits gets a SubscriptionClosedError, and loops end.

        Fires when the server has deleted the consumer. Where it does not answer, that is after some seconds, and the server deletes it by
        itself after some minutes.
        """
        self._is_over = True
        self._buffer.remove_goal(self._goal)
        self._initial.fail(self._closed())
        return self._ordered.stop()

    async def __aenter__(self) -> SubjectWatch:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> SubjectWatch:
        return self

    async def __anext__(self) -> JsMsg | None:
        """The next message, or None; ends at :meth:`stop` and when the client is closed. Cancelling stops it."""
        try:
            return (await self._take(1, None))[0]
        except CancelledError:
            self.stop()
            raise
        except SubscriptionClosedError:
            raise StopAsyncIteration from None

    @deferred
    async def next(self, timeout: float | None = None) -> JsMsg | None:
        """The next message, or None where everything has come that was stored. Cancelling loses none.

        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: nothing came in time.
        :raises SubscriptionClosedError: :meth:`stop` was called, or the client was closed.

        What has ended it for good is raised too, when everything was taken.
        """
        return (await self._take(1, timeout))[0]

    @deferred
    async def some(self, most: int = 500, timeout: float | None = None) -> list[JsMsg | None]:
        """What there is, at least one: as :meth:`next`, for who takes many. None, where it comes, is the last one in the list.

        :param most: so many at most.
        :raises InvalidArgumentError: ``most`` is below 1.
        """
        return await self._take(check_count("most", most), timeout)

    async def _take(self, most: int, timeout: float | None) -> list[JsMsg | None]:
        deadline = None if timeout is None else self.now() + check_seconds("timeout", timeout)
        buffer = self._buffer
        taken: list[JsMsg | None] = []
        while not self._is_over:
            if len(taken) == most:
                return taken
            if not self.is_initial_done and self._has_come():
                self.is_initial_done = True
                buffer.remove_goal(self._goal)
                self._initial.happen()
                taken.append(None)
                return taken
            if buffer.has_next:
                msg = buffer.take()
                if self._left is not None:
                    self._left -= 1
                if self._wanted is None or any(matches(each, msg.subject) for each in self._wanted):
                    taken.append(msg)
            elif taken:
                return taken
            elif buffer.has_ended:
                error = self._named(buffer.error or self._closed())
                self._initial.fail(error)
                raise error
            else:
                await buffer.changed(deadline)
        raise self._closed()

    def _has_come(self) -> bool:
        """Whether everything was taken that was stored when it began."""
        if self._buffer.is_reached(self._goal):
            return True
        self._count()
        return self._left is not None and self._left <= 0 and self._resets == self._buffer.state.resets

    def _count(self) -> None:
        """How many messages are stored for the server's consumer, where that was not counted yet.

        They come before all that is stored later: when so many were taken, none of them is left. Where a consumer was lost, the next one
        may have more.
        """
        resets = self._buffer.state.resets
        if self._buffer.is_reading and (self._left is None or self._resets != resets):
            self._resets = resets
            self._left = 0 if self._only_new else self._ordered.num_pending

    def _named(self, error: BaseException) -> BaseException:
        return self._not_found() if self._not_found is not None and isinstance(error, StreamNotFoundError) else error

    def _closed(self) -> SubscriptionClosedError:
        return SubscriptionClosedError(f"the watch of stream {self.stream_name!r} was stopped, or its client closed")


def separate_filters(filters: Sequence[str]) -> list[str]:
    """Filters of which no two match the same subject, as the server wants them, and which match what the given ones match, or more.

    One that is within another is left out. Two that overlap in part become one that matches both.

    :raises InvalidSubjectError: one breaks a rule.
    """
    for each in filters:
        check_subject("filter", each, wildcards=True)
    exact = {each: None for each in filters if not _has_wildcard(each)}
    wide: list[str] = []
    waiting = [each for each in dict.fromkeys(filters) if _has_wildcard(each)]
    while waiting:
        one = waiting.pop(0)
        other = next((each for each in wide if collide(one, each)), None)
        if other is None:
            wide.append(one)
        elif not is_subset(one, other):
            wide.remove(other)
            waiting.append(one if is_subset(other, one) else _common(one, other))
    return [*(each for each in exact if not any(is_subset(each, other) for other in wide)), *wide]


def _has_wildcard(subject: str) -> bool:
    return "*" in subject or ">" in subject


def _common(one: str, other: str) -> str:
    """A filter that matches all that either matches."""
    left, right = one.split("."), other.split(".")
    tokens: list[str] = []
    for mine, theirs in zip(left, right, strict=False):
        if mine == ">" or theirs == ">":
            return ".".join([*tokens, ">"])
        tokens.append(mine if mine == theirs else "*")
    # Two that collide and have no '>' are of one length.
    return ".".join(tokens)
