"""A stream: the handle that users hold, and how streams are made, changed and found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import (
    InvalidArgumentError,
    JetStreamApiLevelError,
    JetStreamConfigError,
    JetStreamNotEnabledError,
    StreamNameInUseError,
    StreamNotFoundError,
)
from .api import (
    MsgDeleteRequest,
    MsgGetRequest,
    MsgGetResponse,
    Placement,
    PurgeRequest,
    PurgeResponse,
    StepDownRequest,
    StreamConfig,
    StreamInfo,
    StreamNames,
    StreamsRequest,
    SuccessResponse,
    check_subject,
)
from .consumers import StreamConsumers
from .deferred import deferred
from .direct import DirectGet
from .direct_pages import PAGE_BYTES, PAGE_MSGS
from .listing import read_stream_info
from .stored import from_api
from .stream_echo import check_echo

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .context import JetStreamContext
    from .direct_pages import DirectMessages
    from .stored import StoredMsg

# How often creating and updating take turns, where others delete and make the stream meanwhile.
_TURNS = 3


class Stream(StreamConsumers):
    """A stream. :meth:`~pynats_twisted.jetstream.context.JetStreamContext.stream` and the methods that make one return it.

    All methods raise :class:`~pynats_twisted.errors.StreamNotFoundError` when it was deleted, and what
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises.

    :ivar js: through which it is asked.
    :ivar name: its name.
    :ivar cached_info: what is known of it: the last answer of :meth:`info`, of :meth:`update`, or of what made this object.
    """

    def __init__(self, js: JetStreamContext, info: StreamInfo) -> None:
        self.js = js
        self.name = info.config.name
        self.cached_info = info
        self._direct = DirectGet(js, self.name)

    def __repr__(self) -> str:
        return f"<Stream {self.name!r}>"

    @property
    def config(self) -> StreamConfig:
        """Its configuration, as far as is known: the one of :attr:`cached_info`."""
        return self.cached_info.config

    # --- the stream itself -----------------------------------------------------------------------------------

    @deferred
    async def info(self, subjects_filter: str | None = None, deleted_details: bool = False, *, timeout: float | None = None) -> StreamInfo:
        """Ask for its configuration and state.

        :param subjects_filter: ``state.subjects`` has the number of messages of each subject that matches, however many they are; ``>``
            is every subject.
        :param deleted_details: ``state.deleted`` has the sequences that are gone.
        :param timeout: seconds for each request; the context's by default.
        """
        info = await read_stream_info(
            self.js, self.name, subjects_filter=subjects_filter or "", deleted_details=deleted_details, timeout=timeout
        )
        self.cached_info = info
        return info

    @deferred
    async def update(self, config: StreamConfig) -> StreamInfo:
        """Change its configuration: ``update(dataclasses.replace(stream.config, max_age=3600.0))``.

        :raises JetStreamConfigError: it breaks a rule, or has another name.
        :raises StreamConfigRefusedError: the server does not allow the change.
        :raises JetStreamApiLevelError: the server is too old for something in it.
        """
        _check_config(config)
        if config.name != self.name:
            raise JetStreamConfigError("name", config.name, f"must be {self.name!r}, the name of the stream that is to be updated")
        self.cached_info = info = await _update(self.js, config)
        return info

    @deferred
    async def delete(self) -> None:
        """Delete it, with its messages and consumers."""
        await delete_stream(self.js, self.name)

    @deferred
    async def purge(self, seq: int | None = None, keep: int | None = None, filter: str | None = None) -> int:
        """Remove messages (ADR-10); without arguments, all of them.

        :param seq: only those before this sequence.
        :param keep: all but the last so many; not together with ``seq``.
        :param filter: only those whose subject matches; may have wildcards.
        :returns: how many were removed.
        :raises JetStreamConfigError: a value breaks a rule.
        """
        # What is 0 or empty is left out of a request, and then everything would be removed.
        if seq is not None and not seq:
            raise JetStreamConfigError("seq", seq, "must be at least 1, or None for no such limit")
        if seq is not None and keep is not None:
            raise JetStreamConfigError("keep", keep, "must not be set together with seq")
        if filter is not None:
            check_subject("filter", filter, wildcards=True)
        request = PurgeRequest(seq=seq or 0, keep=keep or 0, filter=filter or "")
        return (await self.js.call(PurgeResponse, self.js.prefix.stream_purge(self.name), request)).purged

    @deferred
    async def leader_stepdown(self, placement: Placement | None = None) -> None:
        """Let another server lead it.

        :param placement: which one: ``Placement(preferred="server name")``.
        """
        request = None if placement is None else StepDownRequest(placement=placement)
        await self.js.call(SuccessResponse, self.js.prefix.stream_leader_stepdown(self.name), request)

    # --- one message -----------------------------------------------------------------------------------------

    @deferred
    async def get_msg(self, seq: int, *, direct: bool | None = None, timeout: float | None = None) -> StoredMsg:
        """The message with this sequence.

        :param direct: by a direct get, which any server that has the stream answers, perhaps one that lags a little; False asks the leader.
            By default the configuration decides, with ``allow_direct``.
        :param timeout: seconds; the context's by default.
        :raises MessageNotFoundError: there is none, or not any more.
        """
        return await self._get(MsgGetRequest(seq=seq), lambda: self._direct.get_msg(seq, timeout=timeout), direct, timeout)

    @deferred
    async def get_last_msg(self, subject: str, *, direct: bool | None = None, timeout: float | None = None) -> StoredMsg:
        """The last message of a subject. See :meth:`get_msg`.

        :param subject: may have wildcards: then it is the last one of all that match.
        :raises MessageNotFoundError: there is none.
        """
        check_subject("subject", subject, wildcards=True)
        request = MsgGetRequest(last_by_subj=subject)
        return await self._get(request, lambda: self._direct.get_last_msg(subject, timeout=timeout), direct, timeout)

    @deferred
    async def get_next_msg(self, seq: int, subject: str, *, direct: bool | None = None, timeout: float | None = None) -> StoredMsg:
        """The first message of a subject from a sequence on. See :meth:`get_msg`.

        :param seq: the message with this sequence may be the one.
        :param subject: may have wildcards.
        :raises MessageNotFoundError: there is none.
        """
        check_subject("subject", subject, wildcards=True)
        request = MsgGetRequest(seq=seq, next_by_subj=subject)
        return await self._get(request, lambda: self._direct.get_next_msg(seq, subject, timeout=timeout), direct, timeout)

    async def _get(
        self, request: MsgGetRequest, by_direct_get: Callable[[], Deferred[StoredMsg]], direct: bool | None, timeout: float | None
    ) -> StoredMsg:
        if self.config.allow_direct if direct is None else direct:
            try:
                return await by_direct_get()
            except JetStreamNotEnabledError:
                # The configuration may have changed since it was asked for.
                if direct:
                    raise
        answer = await self.js.call(MsgGetResponse, self.js.prefix.msg_get(self.name), request, timeout=timeout)
        return from_api(answer.message)

    @deferred
    async def delete_msg(self, seq: int) -> None:
        """Remove the message with this sequence.

        :raises MessageNotFoundError: it is gone already, or the stream never had it.
        :raises MessageDeleteError: the same; which of the two is the server's choice.
        """
        await self._delete_msg(MsgDeleteRequest(seq=seq, no_erase=True))

    @deferred
    async def secure_delete_msg(self, seq: int) -> None:
        """Remove the message with this sequence, and overwrite it on the disk, which takes longer. See :meth:`delete_msg`."""
        await self._delete_msg(MsgDeleteRequest(seq=seq))

    async def _delete_msg(self, request: MsgDeleteRequest) -> None:
        await self.js.call(SuccessResponse, self.js.prefix.msg_delete(self.name), request)

    # --- many messages ---------------------------------------------------------------------------------------

    def get_batch(
        self,
        limit: int | None = None,
        *,
        seq: int | None = None,
        start_time: datetime | None = None,
        subject: str | None = None,
        page_msgs: int = PAGE_MSGS,
        page_bytes: int = PAGE_BYTES,
        timeout: float | None = None,
    ) -> DirectMessages:
        """Messages in the order of their sequences: ``async for msg in stream.get_batch(1000, seq=5)``. Needs ``allow_direct``.

        The arguments are those of :meth:`~pynats_twisted.jetstream.direct.DirectGet.get_batch`.
        """
        return self._direct.get_batch(
            limit, seq=seq, start_time=start_time, subject=subject, page_msgs=page_msgs, page_bytes=page_bytes, timeout=timeout
        )

    def get_last_msgs_for(
        self,
        subjects: Sequence[str],
        *,
        up_to_seq: int = 0,
        up_to_time: datetime | None = None,
        page_msgs: int = PAGE_MSGS,
        page_bytes: int = PAGE_BYTES,
        timeout: float | None = None,
    ) -> DirectMessages:
        """The last message of each subject: ``async for msg in stream.get_last_msgs_for(["a.*", "b"])``. Needs ``allow_direct``.

        The arguments are those of :meth:`~pynats_twisted.jetstream.direct.DirectGet.get_last_msgs_for`.
        """
        return self._direct.get_last_msgs_for(
            subjects, up_to_seq=up_to_seq, up_to_time=up_to_time, page_msgs=page_msgs, page_bytes=page_bytes, timeout=timeout
        )


# --- making, changing and finding streams --------------------------------------------------------------------


def _check_config(config: StreamConfig) -> None:
    if not isinstance(config, StreamConfig):
        raise InvalidArgumentError(f"config is a {type(config).__name__}, not a StreamConfig")
    # Before the request's subject is made of the name: so that every broken rule has the name of its field.
    config.validate()


async def _update(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    info = await js.call(StreamInfo, js.prefix.stream_update(config.name), config)
    check_echo(config, info, f"stream {config.name!r} is not what was asked for")
    return info


@deferred
async def find_stream(js: JetStreamContext, name: str) -> Stream:
    """The handle of a stream that there is."""
    return Stream(js, await read_stream_info(js, name))


@deferred
async def create_stream(js: JetStreamContext, config: StreamConfig) -> Stream:
    """Make a stream, and return its handle."""
    _check_config(config)
    info = await js.call(StreamInfo, js.prefix.stream_create(config.name), config)
    try:
        check_echo(config, info, "it was deleted again" if info.did_create else f"stream {config.name!r} is not what was asked for")
    except JetStreamApiLevelError:
        if info.did_create:
            await delete_stream(js, config.name)
        raise
    return Stream(js, info)


@deferred
async def update_stream(js: JetStreamContext, config: StreamConfig) -> Stream:
    """Change a stream, and return its handle."""
    _check_config(config)
    return Stream(js, await _update(js, config))


@deferred
async def create_or_update_stream(js: JetStreamContext, config: StreamConfig) -> Stream:
    """Change a stream, or make it when it is not there, and return its handle."""
    error: Exception | None = None
    for _ in range(_TURNS):
        try:
            return await update_stream(js, config)
        except StreamNotFoundError:
            pass
        try:
            return await create_stream(js, config)
        except StreamNameInUseError as made_meanwhile:
            error = made_meanwhile
    assert error is not None
    raise error


@deferred
async def delete_stream(js: JetStreamContext, name: str) -> None:
    """Delete a stream."""
    await js.call(SuccessResponse, js.prefix.stream_delete(name))


@deferred
async def find_stream_name(js: JetStreamContext, subject: str) -> str:
    """The name of the stream that stores a subject."""
    check_subject("subject", subject, wildcards=True)
    names = (await js.call(StreamNames, js.prefix.stream_names(), StreamsRequest(subject=subject))).streams
    if not names:
        raise StreamNotFoundError(404, 10059, f"no stream stores {subject!r}")
    return names[0]
