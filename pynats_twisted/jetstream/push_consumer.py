"""A push consumer: the server sends its messages by itself, to a subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgumentError
from .consumer import Consumer
from .push_delivery import PushContext, PushMessages, WarningListener

if TYPE_CHECKING:
    from ..client.backlog import Overflow
    from .message import JsMsg


class PushConsumer(Consumer):
    """A consumer with a ``deliver_subject``: the server sends messages there as long as somebody listens.

    With ``flow_control`` the server sends no more than is handled: it is answered when the messages before its question have been
    handled. Without it a server that is faster than the handlers fills the bounds of ``pending_msgs`` and ``pending_bytes``, and what is
    dropped then comes again after ``ack_wait`` only where the consumer wants acks.

    With ``idle_heartbeat``, silence is noticed: a ``heartbeat-missed`` warning is given after two heartbeats, and the end of the consumer
    is found out. Members of a queue group (``deliver_group``) cannot: a heartbeat goes to one of them.
    """

    def consume(
        self,
        handler: Callable[[JsMsg], Any],
        *,
        concurrency: int = 1,
        pending_msgs: int | None = None,
        pending_bytes: int | None = None,
        overflow: Overflow = "drop-new",
        listener: WarningListener | None = None,
    ) -> PushContext:
        """Give messages to a handler, until it is stopped.

        :param handler: gets each :class:`~pynats_twisted.jetstream.message.JsMsg`: a plain function, one that returns a Deferred, or a
            coroutine function. What it raises is logged and counted, as for a subscription.
        :param concurrency: how many handlers may run at once, where they return Deferreds or are coroutines.
        :param pending_msgs: messages that may wait; :param pending_bytes: their bytes.
        :param overflow: what is done when more would wait; all three as for :meth:`pynats_twisted.NatsClient.subscribe`.
        :param listener: is called with each :class:`~pynats_twisted.jetstream.pull_session.ConsumeWarning`; they are logged as well.
        :raises InvalidArgumentError: :raises ConfigurationError: a value breaks a rule.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes nothing more.
        """
        if not callable(handler):
            raise InvalidArgumentError(f"handler={handler!r} is not callable")
        return PushContext(
            self,
            handler,
            listener,
            concurrency=concurrency,
            pending_msgs=pending_msgs,
            pending_bytes=pending_bytes,
            overflow=overflow,
        )

    def messages(
        self,
        *,
        pending_msgs: int | None = None,
        pending_bytes: int | None = None,
        overflow: Overflow = "drop-new",
        listener: WarningListener | None = None,
    ) -> PushMessages:
        """Messages for ``async for``, until it is stopped::

            async with consumer.messages() as messages:
                async for msg in messages:
                    ...
                    await msg.ack()

        The parameters are those of :meth:`consume`.
        """
        return PushMessages(self, listener, pending_msgs=pending_msgs, pending_bytes=pending_bytes, overflow=overflow)
