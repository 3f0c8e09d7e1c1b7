"""Dead letters: what becomes of messages that nobody can handle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..errors import (
    DisconnectedError,
    ExpectationNotReadyError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MessageAlreadyAckedError,
    MessageNotFoundError,
    MessageRejectedError,
    NatsTimeoutError,
    NoStreamResponseError,
    WrongLastSequenceError,
)
from .api import ApiObject, StreamConfig, check_name, check_subject, decode
from .api.fields import UNSIGNED, wire
from .checks import check_count, check_wait
from .dead_letter_headers import Origin, dead_letter_headers, to_timestamp_ns
from .deferred import deferred

if TYPE_CHECKING:
    from ..client.subscription import Subscription
    from ..protocol.headers import Headers
    from ..protocol.message import Msg
    from .context import JetStreamContext
    from .message import JsMsg
    from .stored import StoredMsg
    from .stream import Stream

    Handler = Callable[[JsMsg], Any]

_T = TypeVar("_T")

REJECTED = "rejected"
FAILED = "failed"
MAX_DELIVERIES = "max-deliveries"

MSG_SIZE = "Nats-Msg-Size"

# What may pass: a leader is being elected, a connection was lost. A publish may be stored or not; trying again stores nothing twice.
_PASSING = (
    NatsTimeoutError,
    DisconnectedError,
    ExpectationNotReadyError,
    JetStreamUnavailableError,
    JetStreamTooManyRequestsError,
    JetStreamNotEnabledError,
    NoStreamResponseError,
)
# Another publish with this subject is on its way into the stream, and may not get there.
_IN_CONFLICT = 10164
_MAX_ADVISORY = 64 * 1024
# Seconds before a message is delivered again that could not be stored.
_STORE_AGAIN = 5.0


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class MaxDeliveriesAdvisory(ApiObject):
    """What the server publishes when a message was delivered as often as its consumer allows, and was not acked."""

    stream: str
    consumer: str
    stream_seq: int = field(metadata=wire(UNSIGNED))
    deliveries: int = field(default=0, metadata=wire(UNSIGNED))
    kinds: ClassVar[frozenset[str]] = frozenset({"io.nats.jetstream.advisory.v1.max_deliver"})


class DeadLetters:
    """Stores messages that nobody can handle as dead letters: each one exactly once for each consumer, and then gives them up.

    A dead letter has the subject ``<subject>.<stream>.<consumer>.<sequence>.<nanoseconds>``, the last being the time at which the message
    was stored, so that no other message ever has the same. It is published on the condition that this subject has no message yet.
    So whoever crashes after that, and meets the message again, finds it stored. This holds as long as dead letters stay in their
    stream.

    It has the payload and the headers of the message; :mod:`pynats_twisted.jetstream.dead_letter_headers` has the names of those that
    are added. Headers that mean something to the server (``Nats-…``) get ``Original-`` before their names.

    A stream has to be there that stores what is published below ``subject``: :meth:`stream_config`.

    :param js: where the messages come from.
    :param subject: what the subjects of dead letters begin with.
    :param target: where dead letters are published, when the stream for them is in another domain; by default ``js``.
    :param attempts: how often storing is tried while the server cannot, or does not answer.
    :param retry_wait: seconds between these.
    :raises InvalidSubjectError: the subject breaks a rule.
    :raises InvalidArgumentError: a number breaks a rule.
    """

    log = Logger()

    def __init__(
        self,
        js: JetStreamContext,
        subject: str = "dead",
        *,
        target: JetStreamContext | None = None,
        attempts: int = 5,
        retry_wait: float = 0.25,
    ) -> None:
        check_subject("subject", subject)
        check_count("attempts", attempts)
        check_wait("retry_wait", retry_wait)
        self.js = js
        self.subject = subject
        self.target = js if target is None else target
        self._attempts = attempts
        self._retry_wait = retry_wait

    def __repr__(self) -> str:
        return f"<DeadLetters {self.subject}.>"

    def stream_config(self, name: str) -> StreamConfig:
        """A stream for these dead letters: ``await js.create_or_update_stream(dead.stream_config("DEAD"))``.

        Change it with ``dataclasses.replace`` as needed: ``max_age``, ``replicas`` and so on.
        """
        return StreamConfig(name=name, subjects=[f"{self.subject}.>"], allow_direct=True)

    # --- one message -----------------------------------------------------------------------------------------

    @deferred
    async def reject(self, msg: JsMsg, reason: str = "") -> bool:
        """Store a message as a dead letter, and then give it up, so that it is not delivered again.

        When it fails, the message can still be answered.

        :param reason: why, in a line.
        :returns: True when it was stored now; False when the dead letter was there already.
        :raises MessageAlreadyAckedError: the message has got its final answer. Nothing was stored.
        :raises NotJetStreamMessageError: no consumer delivered it.

        What :meth:`.JetStreamContext.publish` and :meth:`.JsMsg.term_sync` raise is raised here too.
        """
        return await self._give_up(msg, REJECTED, reason)

    @deferred
    async def store(self, msg: JsMsg, reason: str = "") -> bool:
        """Store a message as a dead letter, and do not answer it. Else as :meth:`reject`."""
        return await self._store(msg, REJECTED, reason)

    async def _give_up(self, msg: JsMsg, cause: str, reason: str) -> bool:
        if msg.acked:
            raise MessageAlreadyAckedError(f"reject(): the message on {msg.subject!r} has got its final answer")
        stored = await self._store(msg, cause, reason)
        if not msg.acked:
            await msg.term_sync(f"dead letter: {reason}" if reason else "dead letter")
        return stored

    async def _store(self, msg: JsMsg, cause: str, reason: str) -> bool:
        metadata = msg.metadata
        data = msg.data
        if not data and MSG_SIZE in msg.headers:
            # The consumer delivers headers only.
            found = await self._get(metadata.stream, metadata.stream_seq)
            data = b"" if found is None else found[1].data
        origin = Origin(
            stream=metadata.stream,
            consumer=metadata.consumer,
            seq=metadata.stream_seq,
            timestamp_ns=metadata.timestamp_ns,
            subject=msg.subject,
            deliveries=metadata.num_delivered,
        )
        return await self._publish(origin, data, msg.headers, cause, reason)

    async def _publish(self, origin: Origin, data: bytes, headers: Headers, cause: str, reason: str) -> bool:
        subject = f"{self.subject}.{origin.stream}.{origin.consumer}.{origin.seq}.{origin.timestamp_ns}"
        made = dead_letter_headers(headers, origin, cause, reason)

        async def publish() -> bool | None:
            try:
                await self.target.publish(subject, data, made, expected_last_subject_seq=0, retries=0)
            except WrongLastSequenceError as error:
                return None if error.err_code == _IN_CONFLICT else False
            return True

        return bool(await self._try(publish))

    async def _get(self, stream: str, seq: int) -> tuple[Stream, StoredMsg] | None:
        """A message and its stream, or None when it is gone."""

        async def get() -> tuple[Stream, StoredMsg] | None:
            handle = await self.js.stream(stream)
            return handle, await handle.get_msg(seq)

        try:
            return await self._try(get)
        except MessageNotFoundError:
            return None

    async def _try(self, call: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """What a call gives, begun again while that is None, or an error that may pass."""
        for left in reversed(range(self._attempts)):
            try:
                result = await call()
                if result is not None or not left:
                    return result
            except _PASSING:
                if not left:
                    raise
            await deferLater(self.js.client.reactor, self._retry_wait)
        return None

    # --- handlers --------------------------------------------------------------------------------------------

    def handler(self, function: Handler, *, max_deliver: int, delay: float | None = None) -> Callable[[JsMsg], Deferred[None]]:
        """A handler for :meth:`.PullConsumer.consume` that calls ``function`` and gives each message its final answer:

        * ``function`` ends: the message is acked, unless it was answered by then;
        * it raises :class:`~pynats_twisted.errors.MessageRejectedError`: the message becomes a dead letter;
        * it raises something else: it is refused, to be delivered again; with the delivery number ``max_deliver`` it becomes a dead
          letter. When it cannot be stored, it is refused for at least 5 seconds, and the error is raised.

        What ``function`` raised is raised again, but for what made a dead letter: that is logged here.

        :param function: a plain function, one that returns a Deferred, or a coroutine function.
        :param max_deliver: not more than the consumer's own ``max_deliver``, when that has one.
        :param delay: seconds before a refused message is delivered again; at once by default.
        :raises InvalidArgumentError: a number breaks a rule.

        A process that dies during the last delivery gives no answer: :meth:`watch` is for that.
        """
        check_count("max_deliver", max_deliver)
        if delay is not None:
            check_wait("delay", delay)

        @deferred
        async def handle(msg: JsMsg) -> None:
            try:
                await maybeDeferred(function, msg)
            except CancelledError:
                raise
            except MessageRejectedError as error:
                await self._settle(msg, REJECTED, str(error), delay)
            except Exception as error:
                if msg.acked:
                    raise
                if msg.metadata.num_delivered < max_deliver:
                    await msg.nak(delay)
                    raise
                self.log.failure("delivery {number} of the message on {subject} failed too", number=max_deliver, subject=msg.subject)
                await self._settle(msg, FAILED, f"{type(error).__name__}: {error}", delay)
            else:
                if not msg.acked:
                    await msg.ack()

        return handle

    async def _settle(self, msg: JsMsg, cause: str, reason: str, delay: float | None) -> None:
        try:
            await self._give_up(msg, cause, reason)
        except BaseException:
            # It could not be stored: it comes again where it may, and where not, the server tells whoever watches. Not at once, because
            # what is wrong may stay: a full stream, or a message that has no room for more headers.
            if not msg.acked:
                await msg.nak(max(delay or 0.0, _STORE_AGAIN))
            raise

    # --- deliveries that nobody answered ---------------------------------------------------------------------

    def watch(
        self, stream: str = "*", consumer: str = "*", *, queue: str | None = "dead-letters", remove: bool = False, prefix: str = "$JS.EVENT"
    ) -> Subscription:
        """Make dead letters of messages that were delivered ``max_deliver`` times without an answer, as of now: the server tells of each
        one once, and not again.

        To miss none while nobody watches, let a stream store these advisories, and call :meth:`take_advisory` for each.

        :param stream: of this stream only; :param consumer: of this consumer only.
        :param queue: a queue group: one of several processes gets each. Without one all do the same work, and store each once, too.
        :param remove: delete the message from its stream when the dead letter is stored. In a stream with
            ``RetentionPolicy.WORKQUEUE`` it would stay there for ever.
        :param prefix: of the events, when they are imported from another account.
        :returns: the subscription: await it to know that it has begun, ``drain()`` or ``unsubscribe()`` it to end it. What goes
            wrong with a message is logged, and told to the client's listeners.
        :raises InvalidNameError: :raises InvalidSubjectError: a name or the prefix breaks a rule.
        """
        check_subject("prefix", prefix)
        for what, name in (("stream", stream), ("consumer", consumer)):
            if name != "*":
                check_name(what, name)
        subject = f"{prefix}.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
        return self.js.client.subscribe(subject, lambda msg: self.take_advisory(msg, remove=remove), queue, concurrency=16)

    @deferred
    async def take_advisory(self, advisory_msg: Msg | JsMsg | StoredMsg, *, remove: bool = False) -> bool:
        """Make a dead letter of the message that an advisory of the server names.

        A message that is no longer in its stream was acked late, or deleted: nothing is stored.

        :param advisory_msg: the advisory, as it was published, as a consumer delivered it, or as a stream has it. It is not acked.
        :param remove: as for :meth:`watch`.
        :returns: True when it was stored now.
        :raises JetStreamDecodeError: it is no such advisory.

        What getting the message and :meth:`.JetStreamContext.publish` raise is raised here too.
        """
        advisory = decode(MaxDeliveriesAdvisory, advisory_msg.data, _MAX_ADVISORY)
        found = await self._get(advisory.stream, advisory.stream_seq)
        if found is None:
            text = "message {seq} of stream {stream} is gone, and was delivered by {consumer} as often as it may"
            self.log.info(text, seq=advisory.stream_seq, stream=advisory.stream, consumer=advisory.consumer)
            return False
        stream, msg = found
        origin = Origin(
            stream=advisory.stream,
            consumer=advisory.consumer,
            seq=msg.seq,
            timestamp_ns=to_timestamp_ns(msg.time),
            subject=msg.subject,
            deliveries=advisory.deliveries,
        )
        reason = f"delivered {advisory.deliveries} times without an answer"
        stored = await self._publish(origin, msg.data, msg.headers, MAX_DELIVERIES, reason)
        if remove:
            with suppress(MessageNotFoundError):
                await stream.delete_msg(msg.seq)
        return stored
