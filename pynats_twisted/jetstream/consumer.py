"""What users hold of a consumer, of whatever kind: the calls that manage it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from ..errors import InvalidArgumentError, JetStreamConfigError, RequestTimeoutError
from .api import (
    ConsumerAction,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerPauseRequest,
    ConsumerResetInfo,
    ConsumerResetRequest,
    ConsumerUnpinRequest,
    PauseInfo,
    Placement,
    StepDownRequest,
    SuccessResponse,
    UnpinResponse,
)
from .checks import check_count, is_positive
from .consumer_create import ask_for_consumer
from .deferred import deferred

if TYPE_CHECKING:
    from .context import JetStreamContext


class Consumer:
    """A consumer of a stream. What hands out its messages is in the subclasses: one for pull and one for push consumers.

    Each call that asks the server raises :class:`~pynats_twisted.errors.ConsumerNotFoundError` when the consumer is gone, and what
    :meth:`JetStreamContext.call <pynats_twisted.jetstream.context.JetStreamContext.call>` raises.

    :ivar js: through which it is asked.
    :ivar stream_name: its stream.
    :ivar name: its name.
    :ivar cached_info: what the server said of it last, to any call here.
    """

    def __init__(self, js: JetStreamContext, info: ConsumerInfo) -> None:
        self.js = js
        self.stream_name = info.stream_name
        self.name = info.name
        self.cached_info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of stream {self.stream_name!r}>"

    @property
    def config(self) -> ConsumerConfig:
        """Its configuration, as in :attr:`cached_info`."""
        return self.cached_info.config

    @deferred
    async def info(self) -> ConsumerInfo:
        """Its configuration and its state, as they are now."""
        self.cached_info = await self.js.call(ConsumerInfo, self.js.prefix.consumer_info(self.stream_name, self.name))
        return self.cached_info

    @deferred
    async def update(self, config: ConsumerConfig) -> ConsumerInfo:
        """Change it. Many fields cannot be changed; the server says which.

        :param config: the whole new configuration, as ``dataclasses.replace(consumer.config, ack_wait=60.0)`` makes it.
        :raises ConsumerConfigRefusedError: the server does not accept it, or not for a consumer that there is.
        :raises JetStreamConfigError: it breaks a rule, or has another name.
        """
        named = config.durable or config.name
        if named and named != self.name:
            raise JetStreamConfigError("name", named, f"must be {self.name!r}, the name of the consumer that is to be updated")
        if not named:
            config = replace(config, name=self.name)
        self.cached_info = await ask_for_consumer(self.js, self.stream_name, config, ConsumerAction.UPDATE)
        return self.cached_info

    @deferred
    async def delete(self) -> None:
        """Delete it. Whoever waits for its messages is told."""
        await self.js.call(SuccessResponse, self.js.prefix.consumer_delete(self.stream_name, self.name))

    @deferred
    async def pause(self, until: datetime | float) -> PauseInfo:
        """Let it deliver nothing for a while; heartbeats go on. API level 1 (server 2.11).

        :param until: a time with a time zone, or seconds from now by the clock of the server.
        :raises InvalidArgumentError: the seconds are not a positive number.
        :raises JetStreamConfigError: the time has no time zone.
        """
        if not isinstance(until, datetime):
            seconds = _positive(until)
            until = await self._server_time() + seconds
        return await self._pause(ConsumerPauseRequest(pause_until=until))

    @deferred
    async def resume(self) -> PauseInfo:
        """Let it deliver again. No error when it is not paused."""
        return await self._pause(ConsumerPauseRequest())

    async def _pause(self, request: ConsumerPauseRequest) -> PauseInfo:
        return await self.js.call(PauseInfo, self.js.prefix.consumer_pause(self.stream_name, self.name), request)

    async def _server_time(self) -> datetime:
        info = await self.info()
        return info.ts if info.ts is not None else datetime.now(timezone.utc)

    @deferred
    async def reset(self, seq: int | None = None) -> ConsumerResetInfo:
        """Let it begin again (ADR-60): messages that were delivered and not acked, and all after, are delivered once more.

        API level 4 (server 2.14).

        :param seq: the sequence in the stream to begin at; by default it begins after the last message before which all are acked.
        :returns: its new state; ``reset_seq`` is where it begins.
        :raises ConsumerResetError: its deliver policy does not allow it to begin there.
        :raises InvalidArgumentError: ``seq`` is below 1.
        """
        if seq is not None:
            check_count("seq", seq)
        subject = self.js.prefix.consumer_reset(self.stream_name, self.name)
        try:
            info = await self.js.call(ConsumerResetInfo, subject, ConsumerResetRequest(seq=seq or 0))
        except RequestTimeoutError:
            # The server says nothing for a consumer that is gone.
            await self.info()
            raise
        self.cached_info = info
        return info

    @deferred
    async def unpin(self, group: str) -> None:
        """Take the pin from the pinned client of a priority group (ADR-42): the next one that asks gets it. API level 1.

        :raises PriorityGroupError: it has no such group, or its policy is not ``PriorityPolicy.PINNED_CLIENT``.
        :raises JetStreamConfigError: the group's name breaks a rule.
        """
        subject = self.js.prefix.consumer_unpin(self.stream_name, self.name)
        await self.js.call(UnpinResponse, subject, ConsumerUnpinRequest(group=group))

    @deferred
    async def leader_stepdown(self, preferred: str = "") -> None:
        """Let another server of the cluster lead it.

        :param preferred: the name of that server; the cluster chooses by default.
        """
        request = StepDownRequest(placement=Placement(preferred=preferred)) if preferred else None
        subject = self.js.prefix.consumer_leader_stepdown(self.stream_name, self.name)
        await self.js.call(SuccessResponse, subject, request)


def _positive(seconds: float) -> timedelta:
    if not is_positive(seconds):
        raise InvalidArgumentError(f"until={seconds!r} must be a time or a positive number of seconds")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise InvalidArgumentError(f"until={seconds!r} must be at most 999,999,999 days") from None
