"""Consumers that deliver messages when they are asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from ..errors import InvalidArgumentError, NextMessageTimeoutError
from .api import PriorityPolicy
from .checks import check_count, check_duration
from .consume import ConsumeContext, JsHandler, OnError
from .consumer import Consumer
from .consuming import WarningListener
from .fetch import Fetch
from .messages import Messages
from .pull_options import GroupOptions, fetch_heartbeat, plan_pulls

if TYPE_CHECKING:
    from .api import ConsumerInfo
    from .context import JetStreamContext
    from .message import JsMsg


class PullConsumer(Consumer):
    """A pull consumer: it delivers what it is asked for (ADR-37). Several clients, and several calls at once, share its messages.

    In a consumer with a priority policy (ADR-42), every call that asks for messages is one in a priority group: that which ``group`` names,
    or the consumer's own, when it has only one. There:

    * ``min_pending``, ``min_ack_pending``: of the policy "overflow": messages come only when so many wait in the stream, or when so many
      are delivered and not acked;
    * ``priority``: of the policy "prioritized": 0 is served first, 9 last;
    * of the policy "pinned client", the pin is kept here and sent with every call.

    :ivar pins: the pin of each priority group whose pinned client this is.
    """

    def __init__(self, js: JetStreamContext, info: ConsumerInfo) -> None:
        super().__init__(js, info)
        self.pins: dict[str, str] = {}

    # --- once ------------------------------------------------------------------------------------------------

    def next(
        self,
        timeout: float = 5.0,
        *,
        group: str = "",
        min_pending: int = 0,
        min_ack_pending: int = 0,
        priority: int = 0,
    ) -> Deferred[JsMsg]:
        """The next message.

        :param timeout: seconds to wait for one.
        :raises NextMessageTimeoutError: there was none in that time.

        The rest is as with :meth:`fetch`.
        """
        fetched = self.fetch(1, expires=timeout, group=group, min_pending=min_pending, min_ack_pending=min_ack_pending, priority=priority)

        def first(msgs: list[JsMsg]) -> JsMsg:
            if not msgs:
                raise NextMessageTimeoutError(f"consumer {self.name!r} had no message within {timeout:g} s")
            return msgs[0]

        return fetched.addCallback(first)

    def fetch(
        self,
        batch: int,
        *,
        expires: float = 30.0,
        max_bytes: int | None = None,
        no_wait: bool = False,
        heartbeat: float | None = None,
        group: str = "",
        min_pending: int = 0,
        min_ack_pending: int = 0,
        priority: int = 0,
    ) -> Deferred[list[JsMsg]]:
        """Ask once for messages. Fires when all have come, or with what there was of them in time, which may be nothing.

        When the connection is lost, or the server that leads the consumer changes, before anything came, it asks again for the time that is
        left. When something had come, that is the result. Cancelling gives back what has come, and asks for nothing more.

        :param batch: messages at most.
        :param expires: seconds to wait for them.
        :param max_bytes: bytes at most, of subjects, ack subjects, headers and payloads.
        :param no_wait: take what is there now; ``expires`` does not count then.
        :param heartbeat: seconds between signs of life of the server; after two without one it is given up. By default 5 where
            ``expires`` is 10 or more; 0 is without. At most half of ``expires``.
        :param group: :param min_pending: :param min_ack_pending: :param priority: see the class.
        :raises ConsumerDeletedError: the consumer is gone.
        :raises PullRefusedError: the request contradicts the consumer, too many pulls wait there, or the first message is larger than
            ``max_bytes``.
        :raises NoHeartbeatError: the server did not answer, neither with messages nor with signs of life.
        :raises DisconnectedError: there was no connection.
        :raises JetStreamUnavailableError: nobody leads the consumer at the moment.
        :raises PermissionsViolationError: the client may not pull, or not have an inbox.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes nothing more.
        :raises InvalidArgumentError: :raises JetStreamConfigError: a value breaks a rule. Nothing was sent.
        :raises JetStreamApiLevelError: the server is too old for priority groups.
        """
        check_count("batch", batch)
        check_duration("expires", expires)
        size = 0 if max_bytes is None else check_count("max_bytes", max_bytes)
        if no_wait and heartbeat:
            raise InvalidArgumentError(f"heartbeat={heartbeat!r} does not go together with no_wait")
        return Fetch(
            self,
            batch,
            max_bytes=size,
            expires=float(expires),
            heartbeat=0.0 if no_wait else fetch_heartbeat(expires, heartbeat),
            no_wait=no_wait,
            group=self._group(group, min_pending, min_ack_pending, priority),
        ).start()

    def _group(self, group: str, min_pending: int, min_ack_pending: int, priority: int) -> GroupOptions:
        config = self.config
        if not group and config.priority_policy != PriorityPolicy.NONE and len(config.priority_groups) == 1:
            group = config.priority_groups[0]
        return GroupOptions(group=group, min_pending=min_pending, min_ack_pending=min_ack_pending, priority=priority)

    # --- all the time ----------------------------------------------------------------------------------------

    def messages(
        self,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        expires: float = 30.0,
        heartbeat: float | None = None,
        threshold_messages: int | None = None,
        threshold_bytes: int | None = None,
        stop_after: int | None = None,
        group: str = "",
        min_pending: int = 0,
        min_ack_pending: int = 0,
        priority: int = 0,
        listener: WarningListener | None = None,
    ) -> Messages:
        """Messages for ``async for``, until it is stopped::

            async with consumer.messages() as messages:
                async for msg in messages:
                    ...
                    await msg.ack()

        It goes on over losses of the connection, and asks for more when half of ``max_messages`` has been taken.

        :param max_messages: that are asked for or wait here at most: 500, or without a bound where ``max_bytes`` is given.
        :param max_bytes: the same in bytes.
        :param expires: seconds that each pull waits at the server; at least 1.
        :param heartbeat: seconds between signs of life of the server; after two without one it asks anew. By default half of ``expires``,
            but at most 30.
        :param threshold_messages: ask for more when so many are left of ``max_messages``: half by default.
        :param threshold_bytes: the same in bytes.
        :param stop_after: end after so many messages.
        :param group: :param min_pending: :param min_ack_pending: :param priority: see the class.
        :param listener: is called with each :class:`~pynats_twisted.jetstream.pull_session.ConsumeWarning`; they are logged as well.
        :raises InvalidArgumentError: :raises JetStreamConfigError: a value breaks a rule.
        :raises JetStreamApiLevelError: the server is too old for priority groups.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes nothing more.
        """
        plan = plan_pulls(
            self.config,
            max_messages=max_messages,
            max_bytes=max_bytes,
            expires=expires,
            heartbeat=heartbeat,
            threshold_messages=threshold_messages,
            threshold_bytes=threshold_bytes,
            stop_after=stop_after,
        )
        messages = Messages(self, plan, self._group(group, min_pending, min_ack_pending, priority), listener)
        messages.begin()
        return messages

    def consume(
        self,
        handler: JsHandler,
        *,
        concurrency: int = 1,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        expires: float = 30.0,
        heartbeat: float | None = None,
        threshold_messages: int | None = None,
        threshold_bytes: int | None = None,
        stop_after: int | None = None,
        auto_ack: bool = False,
        auto_in_progress: bool = False,
        on_error: OnError | None = None,
        nak_delay: float = 1.0,
        group: str = "",
        min_pending: int = 0,
        min_ack_pending: int = 0,
        priority: int = 0,
        listener: WarningListener | None = None,
    ) -> ConsumeContext:
        """Give messages to a handler, until it is stopped.

        :param handler: gets each :class:`~pynats_twisted.jetstream.message.JsMsg`: a plain function, one that returns a Deferred, or a
            coroutine function. What it raises is logged.
        :param concurrency: how many handlers may run at once, where they return Deferreds or are coroutines.
        :param auto_ack: ack a message whose handler has ended well, if the handler gave no answer itself.
        :param auto_in_progress: tell the server that a message is being worked on as long as its handler runs, so that ``ack_wait`` does
            not pass.
        :param on_error: what is done with a message whose handler raised, if the handler gave no answer itself: ``"nak"`` it with
            ``nak_delay``, ``"term"`` it, or, with None, nothing: it comes again after ``ack_wait``.
        :param nak_delay: seconds that a message waits whose handler raised.

        The rest is as with :meth:`messages`.
        """
        plan = plan_pulls(
            self.config,
            max_messages=max_messages,
            max_bytes=max_bytes,
            expires=expires,
            heartbeat=heartbeat,
            threshold_messages=threshold_messages,
            threshold_bytes=threshold_bytes,
            stop_after=stop_after,
        )
        context = ConsumeContext(
            self,
            plan,
            self._group(group, min_pending, min_ack_pending, priority),
            listener,
            handler,
            concurrency=concurrency,
            auto_ack=auto_ack,
            auto_in_progress=auto_in_progress,
            on_error=on_error,
            nak_delay=nak_delay,
        )
        context.begin()
        return context
