"""The consumers of a stream: what a stream's handle and the context offer to make, find, list and delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from .api import ConsumerAction, ConsumerConfig, ConsumerInfo, DeliverPolicy, ReplayPolicy, SuccessResponse
from .consumer_create import ask_for_consumer
from .deferred import deferred
from .listing import Listing, list_consumer_names, list_consumers

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .context import JetStreamContext
    from .ordered import OrderedConsumer
    from .pull_consumer import PullConsumer
    from .push_consumer import PushConsumer

    AnyConsumer = PullConsumer | PushConsumer


class OfStream(Protocol):
    """What :class:`StreamConsumers` needs of a stream's handle."""

    @property
    def js(self) -> JetStreamContext:
        """Through which it is asked."""

    @property
    def name(self) -> str:
        """Its name."""


def consumer_handle(js: JetStreamContext, info: ConsumerInfo) -> AnyConsumer:
    """The handle of a consumer that there is: of a push consumer when it has a ``deliver_subject``, else of a pull consumer."""
    if info.config.deliver_subject:
        from .push_consumer import PushConsumer

        return PushConsumer(js, info)
    from .pull_consumer import PullConsumer

    return PullConsumer(js, info)


@deferred
async def make_consumer(js: JetStreamContext, stream: str, config: ConsumerConfig, action: ConsumerAction) -> AnyConsumer:
    """Make or change a consumer, and return its handle."""
    return consumer_handle(js, await ask_for_consumer(js, stream, config, action))


@deferred
async def find_consumer(js: JetStreamContext, stream: str, name: str) -> AnyConsumer:
    """The handle of a consumer that there is."""
    return consumer_handle(js, await js.call(ConsumerInfo, js.prefix.consumer_info(stream, name)))


@deferred
async def remove_consumer(js: JetStreamContext, stream: str, name: str) -> None:
    """Delete a consumer."""
    await js.call(SuccessResponse, js.prefix.consumer_delete(stream, name))


class StreamConsumers:
    """The part of a stream's handle that is about its consumers.

    Each call that asks the server raises what :meth:`JetStreamContext.call <pynats_twisted.jetstream.context.JetStreamContext.call>`
    raises.
    """

    def create_consumer(self: OfStream, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Make a consumer. No error when it is there already with the same configuration.

        One without ``durable`` and ``name`` gets a name that nobody else has.

        :returns: a :class:`~pynats_twisted.jetstream.push_consumer.PushConsumer` when it has a ``deliver_subject``, else a
            :class:`~pynats_twisted.jetstream.pull_consumer.PullConsumer`.
        :raises ConsumerNameInUseError: there is one of this name, with another configuration.
        :raises ConsumerConfigRefusedError: the server refused the configuration.
        :raises JetStreamApiLevelError: the server is too old for something in it.
        :raises JetStreamConfigError: it breaks a rule. Nothing was sent.
        """
        return make_consumer(self.js, self.name, config, ConsumerAction.CREATE)

    def update_consumer(self: OfStream, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Change a consumer that there is; the configuration is the whole new one, with its name.

        :raises ConsumerNotFoundError: there is none.

        Else as :meth:`create_consumer`.
        """
        return make_consumer(self.js, self.name, config, ConsumerAction.UPDATE)

    def create_or_update_consumer(self: OfStream, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Make a consumer, or change it when it is there. Else as :meth:`create_consumer`."""
        return make_consumer(self.js, self.name, config, ConsumerAction.CREATE_OR_UPDATE)

    def consumer(self: OfStream, name: str) -> Deferred[AnyConsumer]:
        """The handle of a consumer that there is.

        :raises ConsumerNotFoundError: there is none.
        :raises InvalidNameError: the name breaks a rule.
        """
        return find_consumer(self.js, self.name, name)

    def delete_consumer(self: OfStream, name: str) -> Deferred[None]:
        """Delete a consumer. Whoever waits for its messages is told.

        :raises ConsumerNotFoundError: there is none.
        :raises InvalidNameError: the name breaks a rule.
        """
        return remove_consumer(self.js, self.name, name)

    def consumers(self: OfStream) -> Listing[ConsumerInfo]:
        """The infos of all consumers, for ``async for`` or ``await``."""
        return list_consumers(self.js, self.name)

    def consumer_names(self: OfStream) -> Listing[str]:
        """The names of all consumers, for ``async for`` or ``await``."""
        return list_consumer_names(self.js, self.name)

    def ordered_consumer(
        self: OfStream,
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
        """Read the stream in order, each message once, without acks, over all that may go wrong below (ADR-37).

        Asks nothing of the server yet. What the parameters mean and what is raised, says
        :meth:`OrderedConsumer.make() <pynats_twisted.jetstream.ordered.OrderedConsumer.make>`.
        """
        from .ordered import OrderedConsumer

        return OrderedConsumer.make(
            self.js,
            self.name,
            filter_subjects=filter_subjects,
            deliver_policy=deliver_policy,
            start_seq=start_seq,
            start_time=start_time,
            headers_only=headers_only,
            replay_policy=replay_policy,
            inactive_threshold=inactive_threshold,
            heartbeat=heartbeat,
            max_messages=max_messages,
            max_bytes=max_bytes,
            metadata=metadata,
        )
