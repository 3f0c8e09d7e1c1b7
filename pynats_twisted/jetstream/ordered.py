"""The ordered consumer (ADR-37): the messages of a stream, each once and in order, whatever happens below."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from ..client.status import HandlerError
from ..client.waiting import OneShot, check_seconds
from ..errors import InvalidArgumentError, JetStreamConfigError, NextMessageTimeoutError, SubscriptionClosedError
from .api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy, check_name
from .checks import check_count, is_number, is_whole
from .deferred import deferred
from .ordered_buffer import OrderedBuffer
from .pulls import PullPlan

if TYPE_CHECKING:
    from .context import JetStreamContext
    from .message import JsMsg

_EXPIRES = 30.0
_SHORTEST_HEARTBEAT = 0.1
# At least so many of the largest messages that a server takes may wait here.
_LARGEST_MESSAGES = 2


class OrderedConsumer:
    """Reads a stream: each message once and in order. ``stream.ordered_consumer()`` makes one.

    Below it are consumers of the server's, which it makes as it needs them: in memory, without replicas and without acks. When one is
    lost - deleted, silent, gone with its server, or a message was lost on its way - it makes another that goes on behind the last
    message. After failures it waits: 1 second at first, 10 at most. It ends by itself only when the stream is gone or was made
    anew, when the server refuses for good, or with the client.

    One ordered consumer has one place in the stream: all ways of taking messages from it share that. :meth:`stop` deletes what it has
    at the server; reading again goes on where it was.

    Nothing is asked of the server before the first use; ``await`` it to know that the stream is there.

    :ivar js: through which it asks.
    :ivar stream_name: the stream.
    """

    def __init__(self, js: JetStreamContext, stream_name: str, config: ConsumerConfig, plan: PullPlan) -> None:
        self.js = js
        self.stream_name = stream_name
        self._buffer = OrderedBuffer(js, stream_name, config, plan)
        self._open: set[OrderedMessages] = set()

    @classmethod
    def make(
        cls,
        js: JetStreamContext,
        stream_name: str,
        *,
        filter_subjects: str | Sequence[str] = (),
        deliver_policy: DeliverPolicy | str | None = None,
        start_seq: int | None = None,
        start_time: datetime | None = None,
        headers_only: bool = False,
        replay_policy: ReplayPolicy | str = ReplayPolicy.INSTANT,
        inactive_threshold: float = 300.0,
        heartbeat: float = 5.0,
        max_messages: int = 500,
        max_bytes: int = 8 * 1024 * 1024,
        metadata: Mapping[str, str] | None = None,
    ) -> OrderedConsumer:
        """Make one. Asks nothing of the server.

        :param filter_subjects: only messages whose subject matches one of these; all by default.
        :param deliver_policy: where it begins: at the first message by default, or where ``start_seq`` or ``start_time`` say. With
            ``LAST_PER_SUBJECT``, when a consumer is lost before the last message of every subject was read, older ones may come among
            the rest of them.
        :param start_seq: begin at this sequence; :param start_time: begin at this time, which has a time zone.
        :param headers_only: without payloads, with their sizes in ``Nats-Msg-Size``.
        :param replay_policy: at once, or with the pauses with which the messages were published.
        :param inactive_threshold: seconds after which the server deletes a consumer by itself that nobody uses: this program was killed.
        :param heartbeat: seconds without messages after which the server gives a sign of life, 0.1 to 30; after twice as many the
            consumer is lost.
        :param max_messages: messages that wait here at most; :param max_bytes: their bytes. A single message may be larger.
        :param metadata: of the consumers at the server.
        :raises JetStreamConfigError: a value breaks a rule; the text names it.
        :raises InvalidNameError: the name of the stream breaks a rule.
        """
        check_name("stream", stream_name)
        if deliver_policy is None:
            by_time = DeliverPolicy.ALL if start_time is None else DeliverPolicy.BY_START_TIME
            deliver_policy = by_time if start_seq is None else DeliverPolicy.BY_START_SEQUENCE
        filters = (filter_subjects,) if isinstance(filter_subjects, str) else tuple(filter_subjects)
        if not filters and deliver_policy == DeliverPolicy.LAST_PER_SUBJECT:
            # The server wants one.
            filters = (">",)
        _check_seconds("heartbeat", heartbeat, _SHORTEST_HEARTBEAT, _EXPIRES)
        _check_seconds("inactive_threshold", inactive_threshold, 2 * heartbeat, float("inf"))
        for name, value in (("max_messages", max_messages), ("max_bytes", max_bytes)):
            if not is_whole(value, 1):
                raise JetStreamConfigError(name, value, "must be a whole number of at least 1")
        config = ConsumerConfig(
            deliver_policy=deliver_policy,
            opt_start_seq=start_seq or 0,
            opt_start_time=start_time,
            ack_policy=AckPolicy.NONE,
            filter_subject=filters[0] if len(filters) == 1 else "",
            filter_subjects=filters if len(filters) > 1 else (),
            replay_policy=replay_policy,
            headers_only=headers_only,
            inactive_threshold=inactive_threshold,
            replicas=1,
            mem_storage=True,
            metadata=dict(metadata or {}),
        )
        config.check_rules()
        max_bytes = max(max_bytes, _LARGEST_MESSAGES * (js.client.max_payload or 0))
        plan = PullPlan(
            max_messages=max_messages,
            max_bytes=max_bytes,
            low_messages=max_messages // 2,
            low_bytes=max_bytes // 2,
            expires=max(_EXPIRES, 2 * heartbeat),
            heartbeat=heartbeat,
        )
        return cls(js, stream_name, config, plan)

    def __repr__(self) -> str:
        return f"<OrderedConsumer of stream {self.stream_name!r} at {self.position}, {self._buffer.state.phase.value}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The sequence in the stream of the message that was taken last; 0 before."""
        return self._buffer.position

    @property
    def name(self) -> str | None:
        """The consumer of the server's that is in use now, or None."""
        return self._buffer.state.name if self._buffer.is_reading else None

    @property
    def num_pending(self) -> int | None:
        """Messages that were not taken yet, as far as the server has said; None before it did."""
        pending = self._buffer.state.pending
        return None if pending is None else pending + len(self._buffer)

    @property
    def resets(self) -> int:
        """How many of the server's consumers were lost."""
        return self._buffer.state.resets

    @property
    def last_reset(self) -> str:
        """Why the last one that was lost was lost, or could not be made; ``""`` when none was."""
        return self._buffer.state.reason

    @property
    def buffer(self) -> OrderedBuffer:
        """What was read and not taken yet: for what is built on this, as :class:`~pynats_twisted.jetstream.subject_watch.SubjectWatch`."""
        return self._buffer

    # --- beginning and stopping ------------------------------------------------------------------------------

    def __await__(self) -> Generator[Deferred[Any], Any, OrderedConsumer]:
        return self.ready().__await__()

    @deferred
    async def ready(self) -> OrderedConsumer:
        """Begin, and fire with this object when the server has a consumer for it: :attr:`num_pending` is known then.

        :raises StreamNotFoundError: there is no such stream.
        :raises JetStreamApiError: the server refuses for another reason.
        :raises SubscriptionClosedError: it was stopped meanwhile, or the client was closed.
        """
        buffer = self._buffer
        while not buffer.is_reading:
            if buffer.has_ended:
                raise buffer.error or buffer.stopped()
            await buffer.created()
        return self

    def stop(self) -> Deferred[None]:
        """Read no more: all iterations, handlers and calls that wait end. What was not taken yet stays for the next use.

        Fires when the server has deleted the consumer. Where it does not answer, that is after some seconds, and the consumer is
        deleted after ``inactive_threshold``.
        """
        for each in list(self._open):
            each.shut()
        return self._buffer.suspend()

    async def __aenter__(self) -> OrderedConsumer:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> OrderedMessages:
        return self.messages()

    @deferred
    async def next(self, timeout: float | None = None) -> JsMsg:
        """The next message. Cancelling loses none.

        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: none came in time.
        :raises SubscriptionClosedError: :meth:`stop` was called, or the client was closed.

        What has ended it for good is raised too, when everything was taken.
        """
        deadline = None if timeout is None else self._now() + check_seconds("timeout", timeout)
        buffer = self._buffer
        while not buffer.has_next:
            await buffer.changed(deadline)
        return buffer.take()

    @deferred
    async def fetch(self, batch: int, *, expires: float = 30.0, no_wait: bool = False) -> list[JsMsg]:
        """Several messages: ``batch`` as soon as there are so many, or after ``expires`` what there is until then, perhaps nothing.

        Cancelling loses none.

        :param expires: seconds.
        :param no_wait: do not wait for messages that are not stored yet.
        :raises InvalidArgumentError: ``batch`` is below 1.

        Raises as :meth:`next` when there is nothing, but for the time-out.
        """
        check_count("batch", batch)
        deadline = self._now() + check_seconds("expires", expires)
        buffer = self._buffer
        goal = buffer.add_goal() if no_wait else None
        msgs: list[JsMsg] = []
        begun_at = buffer.position
        try:
            while len(msgs) < batch and not (goal is not None and buffer.is_reached(goal)):
                if buffer.has_next:
                    msgs.append(buffer.take())
                else:
                    await buffer.changed(deadline)
        except NextMessageTimeoutError:
            pass
        except CancelledError:
            buffer.give_back(msgs, begun_at)
            raise
        except Exception:
            # What ended it is told when there is nothing left.
            if not msgs:
                raise
        finally:
            if goal is not None:
                buffer.remove_goal(goal)
        return msgs

    def messages(self, *, until_drained: bool = False) -> OrderedMessages:
        """The messages, for ``async for``. Stop it, or use ``async with``, where the loop may be left early.

        :param until_drained: end when everything that is stored was read; else it goes on with what is published later.
        """
        return OrderedMessages(self._buffer, self._open, until_drained)

    def consume(self, handler: Callable[[JsMsg], Any], *, until_drained: bool = False) -> OrderedContext:
        """Call ``handler`` with each message, one after another.

        :param handler: a plain function, one that returns a Deferred, or a coroutine function; the next message waits until it has
            ended. What it raises is logged and counted.
        :param until_drained: end when everything that is stored was read.
        """
        if not callable(handler):
            raise InvalidArgumentError(f"handler={handler!r} is not callable")
        return OrderedContext(self, self.messages(until_drained=until_drained), handler)

    def _now(self) -> float:
        seconds: float = self.js.client.reactor.seconds()
        return seconds


class OrderedMessages(AsyncIterator["JsMsg"]):
    """Messages of an ordered consumer, for ``async for``.

    It ends at :meth:`stop`, when the client is closed, and with ``until_drained`` behind what is stored. Then, and when whoever waits for
    a message is cancelled, the consumer at the server is deleted, unless somebody else reads.
    """

    def __init__(self, buffer: OrderedBuffer, others: set[OrderedMessages], until_drained: bool) -> None:
        self._buffer = buffer
        self._others = others
        self._goal = buffer.add_goal() if until_drained else None
        self._is_over = False
        others.add(self)

    def __aiter__(self) -> OrderedMessages:
        return self

    async def __anext__(self) -> JsMsg:
        buffer = self._buffer
        while not self._is_over:
            if self._goal is not None and buffer.is_reached(self._goal):
                await self.stop()
                break
            if buffer.has_next:
                return buffer.take()
            try:
                await buffer.changed()
            except CancelledError:
                self.stop()
                raise
            except SubscriptionClosedError:
                break
            except Exception:
                self.shut()
                raise
        self.shut()
        raise StopAsyncIteration

    async def __aenter__(self) -> OrderedMessages:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    def stop(self) -> Deferred[None]:
        """End it. What was not taken stays with the ordered consumer.

        Fires when the server has deleted the consumer, as :meth:`OrderedConsumer.stop`; at once when somebody else reads.
        """
        if self._is_over:
            return succeed(None)
        self.shut()
        return self._let_go()

    def end_here(self) -> Deferred[None]:
        """End it behind what has come. Nothing more is read. Fires as :meth:`stop`."""
        goal = self._goal
        if goal is None:
            goal = self._goal = self._buffer.add_goal()
        goal.end = self._buffer.state.position or 0
        return self._let_go()

    def _let_go(self) -> Deferred[None]:
        cleaned = succeed(None) if self._others - {self} else self._buffer.pause()
        # Whoever else waits goes on.
        self._buffer.wake_all()
        return cleaned

    def shut(self) -> None:
        """Hand out nothing more. What is at the server is left to others."""
        self._is_over = True
        self._others.discard(self)
        if self._goal is not None:
            self._buffer.remove_goal(self._goal)


class OrderedContext:
    """A handler that gets the messages of an ordered consumer."""

    _log = Logger()

    def __init__(self, consumer: OrderedConsumer, messages: OrderedMessages, handler: Callable[[JsMsg], Any]) -> None:
        self._consumer = consumer
        self._client = consumer.js.client
        self._messages = messages
        self._handler = handler
        self._done = OneShot()
        Deferred.fromCoroutine(self._run()).addCallbacks(lambda _: self._done.happen(), lambda failure: self._failed(failure.value))

    @property
    def done(self) -> Deferred[None]:
        """Fires when it has ended and the handler runs no more; a new Deferred each time. Fails with the error that ended it."""
        return self._done.wait()

    def stop(self) -> Deferred[None]:
        """Handle nothing more. Fires as :meth:`OrderedMessages.stop`, and does not wait for the handler that may be running."""
        return self._messages.stop()

    def drain(self) -> Deferred[None]:
        """Handle what has come, and then nothing more. Fires when that is done."""
        self._messages.end_here()
        return self.done

    async def _run(self) -> None:
        handler = self._handler
        async for msg in self._messages:
            try:
                result = handler(msg)
                if isinstance(result, (Deferred, Coroutine)):
                    await result
            except Exception as error:  # noqa: BLE001 - the user's code; it is logged
                self._handler_failed(msg, error)

    def _handler_failed(self, msg: JsMsg, error: Exception) -> None:
        self._log.failure("A handler of stream {stream!r} failed on a message", stream=self._consumer.stream_name)
        self._client.counters.handler_errors += 1
        self._client.events.emit(HandlerError(msg.msg.subscription, msg.msg, error))

    def _failed(self, error: BaseException) -> None:
        if not self._done.waited_for:
            self._log.error("Reading stream {stream!r} has ended: {error}", stream=self._consumer.stream_name, error=error)
        self._done.fail(error)


def _check_seconds(name: str, value: float, least: float, most: float) -> None:
    if not is_number(value) or not least <= value <= most:
        limit = f"at least {least:g}" if most == float("inf") else f"{least:g} to {most:g}"
        raise JetStreamConfigError(name, value, f"must be a number of seconds, {limit}")
