"""Publishing to streams: the part of a context that users call."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ..errors import InvalidArgumentError, JetStreamConfigError
from .checks import check_timeout, is_not_negative, is_whole
from .expectations import MSG_ID, Rollup, Ttl, publish_headers
from .pub_acks import PubAcks, Publish
from .publish_async import PublishWindow

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..client.client import NatsClient
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from .api import PubAck

_RETRIES = 2
_RETRY_WAIT = 0.25


class Publisher:
    """The part of a :class:`~pynats_twisted.jetstream.context.JetStreamContext` that publishes.

    A publish that has a message id (``msg_id``, or a header ``Nats-Msg-Id``) survives a lost connection and a lost ack. When the next
    connection is there, all that got no ack are sent again, in order, behind what waited in the client's buffer; and so is one whose ack is
    overdue. The stream stores it once: an ack marked ``duplicate`` is as good. One without an id fails when the connection is lost, with
    :class:`~pynats_twisted.errors.PublishDisconnectedError`, unless it had not left yet: it is unknown whether it was stored, and sent
    again it might be stored twice.

    Keep the context, and use it for all: each one that publishes has an inbox of its own for as long as the client lives.

    :param timeout: seconds that a publish waits for its ack.
    :param max_async_pending: publishes of :meth:`publish_async` that may be without an ack.
    :param async_stall_wait: seconds that one more waits for room; 0 for none.
    :param duplicate_window: seconds for which the streams remember message ids: the least ``duplicate_window`` of the streams that are
        published to. What is older is not sent again.
    :param resend_after: seconds without an ack after which a publish with a message id is sent again on the same connection; each time
        after twice as long as before. None for never.
    """

    if TYPE_CHECKING:
        # A context has this.

        def check_feature(self, name: str, level: int) -> None:
            """Check that the server has the API level of something."""

    def __init__(
        self,
        client: NatsClient,
        *,
        timeout: float,
        max_async_pending: int,
        async_stall_wait: float,
        duplicate_window: float,
        resend_after: float | None,
    ) -> None:
        if not is_whole(max_async_pending, 1):
            raise InvalidArgumentError(f"max_async_pending {max_async_pending!r} is not a number of publishes, 1 or more")
        _check_seconds("async_stall_wait", async_stall_wait)
        _check_seconds("duplicate_window", duplicate_window)
        if resend_after is not None:
            check_timeout("resend_after", resend_after)
        self.timeout = check_timeout("timeout", timeout)
        acks = self._acks = PubAcks(client, resend_after=resend_after, duplicate_window=duplicate_window)
        self._window = PublishWindow(acks, client.reactor, max_async_pending, async_stall_wait)
        acks.on_end = self._window.end

    # --- publishing ------------------------------------------------------------------------------------------

    def publish(
        self,
        subject: str,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        *,
        msg_id: str | None = None,
        expected_stream: str | None = None,
        expected_last_seq: int | None = None,
        expected_last_subject_seq: int | None = None,
        expected_last_subject_seq_subject: str | None = None,
        expected_last_msg_id: str | None = None,
        ttl: Ttl | None = None,
        rollup: Rollup | None = None,
        retries: int = _RETRIES,
        retry_wait: float = _RETRY_WAIT,
        timeout: float | None = None,
    ) -> Deferred[PubAck]:
        """Publish, and wait until a stream has stored it.

        Cancelling ends the waiting; the message may be stored all the same.

        :param headers: copied; what the parameters below say is added to them.
        :param msg_id: the stream stores one message with this id within its duplicate window, and answers a second one with the ack of the
            first, marked ``duplicate``.
        :param expected_stream: the stream that has to store it.
        :param expected_last_seq: the last sequence that the stream has to have; 0 for an empty one.
        :param expected_last_subject_seq: the last sequence that the subject has to have in the stream; 0 when it has to have none.
        :param expected_last_subject_seq_subject: the subject meant by that, wildcards allowed, when it is another.
        :param expected_last_msg_id: the message id that the stream's last message has to have.
        :param ttl: seconds after which the stream removes the message, 1 or more, a fraction counting as a whole one; ``"never"`` where the
            stream's ``max_age`` must not. The stream has to have ``allow_msg_ttl``.
        :param rollup: remove what the stream had before: of this subject (``"sub"``), or all (``"all"``).
        :param retries: how often it is sent again when no stream takes it (status 503): one may be electing its leader (ADR-22). That can
            last some seconds when a server of a cluster was lost: a publish that shall outlast it needs more of them.
        :param retry_wait: seconds before each time.
        :param timeout: seconds until it fails, all retries included; the context's by default.
        :raises NoStreamResponseError: no stream takes what is published there, or JetStream is off.
        :raises PublishTimeoutError: no ack came in time; it is unknown whether it was stored.
        :raises PublishDisconnectedError: the connection was lost before the ack came, and the publish has no message id, or the next
            connection came too late; it is unknown whether it was stored.
        :raises WrongLastSequenceError: :raises WrongStreamError: :raises WrongLastMessageIdError: the stream is not as expected.
        :raises JetStreamApiError: the stream refused it for another reason; see its classes.
        :raises JetStreamConfigError: a value breaks a rule, or contradicts ``headers``. Nothing was sent.
        :raises PermissionsViolationError: the publish, or the inbox for the ack, was denied.
        :raises ConnectionClosedError: the client was closed; it is unknown whether a publish that waits for its ack was stored.
        :raises ConnectionDrainingError: the client takes nothing more.

        What :meth:`NatsClient.publish() <pynats_twisted.NatsClient.publish>` raises is raised here, too; as there, wrong values raise at
        once.
        """
        publish = self._new(
            subject, payload, headers, msg_id, expected_stream, expected_last_seq, expected_last_subject_seq,
            expected_last_subject_seq_subject, expected_last_msg_id, ttl, rollup, retries, retry_wait,
        )  # fmt: skip
        self._acks.send(publish, self.timeout if timeout is None else check_timeout("timeout", timeout))
        return publish

    def publish_async(
        self,
        subject: str,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        *,
        msg_id: str | None = None,
        expected_stream: str | None = None,
        expected_last_seq: int | None = None,
        expected_last_subject_seq: int | None = None,
        expected_last_subject_seq_subject: str | None = None,
        expected_last_msg_id: str | None = None,
        ttl: Ttl | None = None,
        rollup: Rollup | None = None,
        retries: int = _RETRIES,
        retry_wait: float = _RETRY_WAIT,
        timeout: float | None = None,
    ) -> Deferred[PubAck]:
        """Publish, and go on: as :meth:`publish`, with at most ``max_async_pending`` publishes without an ack at once.

        When that many are, it is sent as soon as there is room. Await :meth:`publish_async_room` before each to let them set the pace,
        and :meth:`publish_async_complete` at the end; draining the client waits for it, too. Who drops the Deferred finds the error of a
        failed publish in the log.

        :raises TooManyStalledMsgsError: by the Deferred: no room came within ``async_stall_wait``, or ``max_async_pending`` publishes wait
            for room already. It was not sent.

        The parameters are those of :meth:`publish`, and so are the other errors.
        """
        # As in publish(), written out once more: a call with all of these would cost more than the rest.
        publish = self._new(
            subject, payload, headers, msg_id, expected_stream, expected_last_seq, expected_last_subject_seq,
            expected_last_subject_seq_subject, expected_last_msg_id, ttl, rollup, retries, retry_wait,
        )  # fmt: skip
        self._window.publish(publish, self.timeout if timeout is None else check_timeout("timeout", timeout))
        return publish

    def _new(
        self,
        subject: str,
        payload: Payload,
        headers: HeadersLike | None,
        msg_id: str | None,
        expected_stream: str | None,
        expected_last_seq: int | None,
        expected_last_subject_seq: int | None,
        expected_last_subject_seq_subject: str | None,
        expected_last_msg_id: str | None,
        ttl: Ttl | None,
        rollup: Rollup | None,
        retries: int,
        retry_wait: float,
    ) -> Publish:
        publish = Publish(self._acks.canceller)
        publish.subject = subject
        publish.payload = payload if payload.__class__ is bytes else _copied(payload)
        if (
            headers is not None
            or msg_id is not None
            or expected_stream is not None
            or expected_last_seq is not None
            or expected_last_subject_seq is not None
            or expected_last_subject_seq_subject is not None
            or expected_last_msg_id is not None
            or ttl is not None
            or rollup is not None
        ):
            made = publish_headers(
                headers,
                msg_id=msg_id,
                expected_stream=expected_stream,
                expected_last_seq=expected_last_seq,
                expected_last_subject_seq=expected_last_subject_seq,
                expected_last_subject_seq_subject=expected_last_subject_seq_subject,
                expected_last_msg_id=expected_last_msg_id,
                ttl=ttl,
                rollup=rollup,
            )
            if ttl is not None:
                self.check_feature("ttl", 1)
            publish.headers = made
            publish.has_id = made is not None and MSG_ID in made
        if retries != _RETRIES or retry_wait != _RETRY_WAIT:
            _set_retries(publish, retries, retry_wait)
        return publish

    # --- waiting for publish_async ---------------------------------------------------------------------------

    @property
    def publish_async_pending(self) -> int:
        """Publishes of :meth:`publish_async` that have no ack yet, also those that wait for room."""
        return self._window.pending

    def publish_async_room(self) -> Awaitable[None]:
        """Wait until :meth:`publish_async` has room, in its window and in the client's outbound buffer.

        Once the window was full, that is when a quarter of it is free. Never fails.
        """
        return self._window.room()

    def publish_async_complete(self, timeout: float | None = None) -> Deferred[None]:
        """Fires when every publish of :meth:`publish_async` has ended, well or not. Each tells its own error to its own Deferred.

        :param timeout: seconds; without an end by default, as each publish has one of its own.
        :raises NatsTimeoutError: some are still without an ack. They go on.
        """
        return self._window.complete(None if timeout is None else check_timeout("timeout", timeout))


def _check_seconds(name: str, value: float) -> None:
    if not is_not_negative(value):
        raise InvalidArgumentError(f"{name} {value!r} is not a number of seconds, 0 or more")


def _copied(payload: Payload) -> Payload:
    # It may have to be sent again when the caller has changed it. What is no buffer is refused when it is sent.
    return bytes(payload) if isinstance(payload, (bytearray, memoryview)) else payload


def _set_retries(publish: Publish, retries: int, retry_wait: float) -> None:
    if not is_whole(retries, 0):
        raise JetStreamConfigError("retries", retries, "must be a whole number, 0 or more")
    _check_seconds("retry_wait", retry_wait)
    publish.retries = retries
    publish.retry_wait = retry_wait
