"""What users hold to work with JetStream: the API under one prefix, by one client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..errors import JetStreamApiLevelError, JetStreamNotEnabledError, NoRespondersError
from ..protocol.subjects import LiteralSubject
from .api import (
    REQUIRED_LEVEL_HEADER,
    AccountInfo,
    ApiObject,
    ApiPrefix,
    ConsumerAction,
    check_api_level,
    decode,
    encode,
    required_api_level,
)
from .batch import AtomicBatch
from .consumers import find_consumer, make_consumer, remove_consumer
from .counters import increment
from .deferred import deferred
from .direct import DirectGet
from .fast_ingest import FastIngest
from .listing import list_consumer_names, list_consumers, list_stream_names, list_streams
from .publisher import Publisher
from .schedules import publish_schedule
from .stores import Stores
from .stream import create_or_update_stream, create_stream, delete_stream, find_stream, find_stream_name, update_stream

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from typing_extensions import Unpack

    from ..client.client import NatsClient
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from .api import ConsumerConfig, ConsumerInfo, PubAck, StreamConfig, StreamInfo
    from .batch import Expectations
    from .consumers import AnyConsumer
    from .fast_ingest import Gap, ProblemHandler
    from .listing import Listing
    from .schedules import Schedule
    from .stream import Stream

_T = TypeVar("_T", bound=ApiObject)


class JetStreamContext(Publisher, Stores):
    """JetStream for one client: what :meth:`pynats_twisted.NatsClient.jetstream` returns. Several may be used side by side.

    :param client: every request goes through it.
    :param domain: :param api_prefix: see :class:`~pynats_twisted.jetstream.api.ApiPrefix`.
    :param timeout: seconds that a request of the API may take, and that a publish waits for its ack.

    The other parameters are those of :class:`~pynats_twisted.jetstream.publisher.Publisher`.
    """

    def __init__(
        self,
        client: NatsClient,
        *,
        domain: str | None = None,
        api_prefix: str | None = None,
        timeout: float = 5.0,
        max_async_pending: int = 4000,
        async_stall_wait: float = 0.2,
        duplicate_window: float = 120.0,
        resend_after: float | None = 1.0,
    ) -> None:
        super().__init__(
            client,
            timeout=timeout,
            max_async_pending=max_async_pending,
            async_stall_wait=async_stall_wait,
            duplicate_window=duplicate_window,
            resend_after=resend_after,
        )
        self.client = client
        self.prefix = ApiPrefix(domain=domain, api_prefix=api_prefix)
        # Behind a domain or a prefix there may be another server than the one we are connected to.
        self._own_server = domain is None and api_prefix is None

    def __repr__(self) -> str:
        return f"<JetStreamContext {self.prefix.prefix} of {self.client!r}>"

    # --- the API ---------------------------------------------------------------------------------------------

    @deferred
    async def call(self, answer: type[_T], subject: str, request: ApiObject | None = None, *, timeout: float | None = None) -> _T:
        """Ask the API, and read the answer.

        :param answer: the class of the answer.
        :param subject: one of :attr:`prefix`.
        :param timeout: seconds; the context's by default.
        :raises JetStreamApiError: the answer is an error; its class follows from the ``err_code``.
        :raises JetStreamApiLevelError: the server is too old for what the request asks.
        :raises JetStreamNotEnabledError: nobody answers: JetStream is off, or the domain or prefix is wrong.
        :raises JetStreamConfigError: the request breaks a rule. Nothing was sent.

        What :meth:`~pynats_twisted.NatsClient.request` raises is raised here too.
        """
        payload = b""
        headers = None
        if request is not None:
            level = self.check_level(request)
            if level:
                headers = {REQUIRED_LEVEL_HEADER: str(level)}
            payload = encode(request)
        msg = await self.request(subject, payload, headers, timeout)
        return decode(answer, msg.data)

    def check_level(self, request: ApiObject) -> int:
        """The API level that a request needs; 0 when every server will do.

        :raises JetStreamApiLevelError: the server that we are connected to has a lower one, and is the one that is asked.
        """
        info = self.client.server_info
        if self._own_server and info is not None:
            check_api_level(request, info.api_lvl)
        return required_api_level(request)

    def check_feature(self, name: str, level: int) -> None:
        """Check that the server has the API level of something that is asked for by a publish, of which a server that is too old takes
        no notice.

        :raises JetStreamApiLevelError: the server that we are connected to has a lower one, and is the one that is asked.
        """
        info = self.client.server_info
        if self._own_server and info is not None and info.jetstream and info.api_lvl < level:
            raise JetStreamApiLevelError(f"{name} needs API level {level}, the server has {info.api_lvl}", level, info.api_lvl, (name,))

    @deferred
    async def request(self, subject: str, payload: bytes = b"", headers: HeadersLike | None = None, timeout: float | None = None) -> Msg:
        """Ask the API, and return the answer as it came.

        :raises JetStreamNotEnabledError: nobody answers: JetStream is off, or the domain or prefix is wrong.
        """
        try:
            return await self.client.request(LiteralSubject(subject), payload, headers, self.timeout if timeout is None else timeout)
        except NoRespondersError:
            raise JetStreamNotEnabledError(503, 0, f"nobody answers on {subject}") from None

    # --- the account -----------------------------------------------------------------------------------------

    def account_info(self) -> Deferred[AccountInfo]:
        """What the account uses and may use."""
        return self.call(AccountInfo, self.prefix.account_info())

    # --- streams ---------------------------------------------------------------------------------------------

    def create_stream(self, config: StreamConfig) -> Deferred[Stream]:
        """Make a stream. No error when it is there already with the same configuration.

        :raises StreamNameInUseError: there is one of this name, with another configuration.
        :raises SubjectOverlapError: another stream has one of the subjects.
        :raises StreamConfigRefusedError: the server refused the configuration.
        :raises JetStreamApiLevelError: the server is too old for something in it. When it made a stream without that, the stream was
            deleted again.
        :raises JetStreamConfigError: it breaks a rule. Nothing was sent.
        """
        return create_stream(self, config)

    def update_stream(self, config: StreamConfig) -> Deferred[Stream]:
        """Change a stream; the configuration is the whole new one.

        :raises StreamNotFoundError: there is none of this name.

        Else as :meth:`create_stream`, but nothing is deleted.
        """
        return update_stream(self, config)

    def create_or_update_stream(self, config: StreamConfig) -> Deferred[Stream]:
        """Change a stream, or make it when it is not there, also when others do the same at this time. Else as :meth:`create_stream`."""
        return create_or_update_stream(self, config)

    def delete_stream(self, name: str) -> Deferred[None]:
        """Delete a stream, with its messages and consumers.

        :raises StreamNotFoundError: there is none of this name.
        :raises InvalidNameError: the name breaks a rule.
        """
        return delete_stream(self, name)

    def stream(self, name: str) -> Deferred[Stream]:
        """The handle of a stream that there is; asks for its info.

        :raises StreamNotFoundError: :raises InvalidNameError: as :meth:`delete_stream`.
        """
        return find_stream(self, name)

    def stream_name_by_subject(self, subject: str) -> Deferred[str]:
        """The name of the stream that stores a subject, the first one where several match.

        :param subject: may have wildcards.
        :raises StreamNotFoundError: no stream stores it.
        :raises InvalidSubjectError: it breaks a rule.
        """
        return find_stream_name(self, subject)

    def streams(self, subject: str | None = None) -> Listing[StreamInfo]:
        """The infos of all streams, for ``async for`` or ``await``.

        :param subject: only streams that store something which matches; may have wildcards.
        :raises JetStreamConfigError: the subject breaks a rule.
        """
        return list_streams(self, subject)

    def stream_names(self, subject: str | None = None) -> Listing[str]:
        """The names of all streams, as :meth:`streams`."""
        return list_stream_names(self, subject)

    def direct_get(self, stream: str) -> DirectGet:
        """Reads messages of a stream with ``allow_direct``, without asking for its info first: for users who may do no more.

        :raises InvalidNameError: the name breaks a rule.
        """
        return DirectGet(self, stream)

    # --- consumers -------------------------------------------------------------------------------------------

    def create_consumer(self, stream: str, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Make a consumer: :meth:`.StreamConsumers.create_consumer` without asking for the stream first."""
        return make_consumer(self, stream, config, ConsumerAction.CREATE)

    def update_consumer(self, stream: str, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Change a consumer that there is, as :meth:`.StreamConsumers.update_consumer`."""
        return make_consumer(self, stream, config, ConsumerAction.UPDATE)

    def create_or_update_consumer(self, stream: str, config: ConsumerConfig) -> Deferred[AnyConsumer]:
        """Make a consumer, or change it when it is there, as :meth:`.StreamConsumers.create_or_update_consumer`."""
        return make_consumer(self, stream, config, ConsumerAction.CREATE_OR_UPDATE)

    def consumer(self, stream: str, name: str) -> Deferred[AnyConsumer]:
        """The handle of a consumer that there is, as :meth:`.StreamConsumers.consumer`.

        :raises ConsumerNotFoundError: :raises StreamNotFoundError: there is none.
        """
        return find_consumer(self, stream, name)

    def delete_consumer(self, stream: str, name: str) -> Deferred[None]:
        """Delete a consumer, as :meth:`.StreamConsumers.delete_consumer`."""
        return remove_consumer(self, stream, name)

    def consumers(self, stream: str) -> Listing[ConsumerInfo]:
        """The infos of all consumers of a stream, for ``async for`` or ``await``."""
        return list_consumers(self, stream)

    def consumer_names(self, stream: str) -> Listing[str]:
        """The names of all consumers of a stream, for ``async for`` or ``await``."""
        return list_consumer_names(self, stream)

    # --- batches, counters, schedules ------------------------------------------------------------------------

    def batch(self, *, timeout: float | None = None, ack_first: bool = True, ack_every: int | None = None) -> AtomicBatch:
        """Messages that are stored all together or not at all (ADR-50), for ``async with``; see :class:`.AtomicBatch`.

        :param timeout: seconds that the server may take for each answer; the context's by default.
        :param ack_first: wait until the server has accepted the first message. Else an error shows at the end only.
        :param ack_every: wait for the server after every so many messages, too; None for never.
        """
        return AtomicBatch(self, timeout=timeout, ack_first=ack_first, ack_every=ack_every)

    def fast_ingest(
        self,
        *,
        gap: Gap = "fail",
        flow: int = 100,
        outstanding: int = 2,
        timeout: float | None = None,
        on_problem: ProblemHandler | None = None,
    ) -> FastIngest:
        """Many messages with few acks (ADR-50), for ``async with``; see :class:`.FastIngest`.

        :param gap: when messages are lost or refused: ``"fail"`` ends the batch, ``"ok"`` lets it go on.
        :param flow: the server acks at least every so many messages. It may slow the batch down, to every single one.
        :param outstanding: 1 to 3: how many of these acks may be missing before the sender has to wait. 3 is for slow networks.
        :param timeout: seconds that the batch waits for the server each time; the context's by default.
        :param on_problem: called with ``gap="ok"``: with a :class:`~pynats_twisted.jetstream.api.BatchFlowGap` for messages that were lost
            and a :class:`~pynats_twisted.jetstream.api.BatchFlowError` for one that was refused. What it raises is logged.
        """
        return FastIngest(self, gap=gap, flow=flow, outstanding=outstanding, timeout=timeout, on_problem=on_problem)

    def increment(self, subject: str, by: int = 1, headers: HeadersLike | None = None, *, timeout: float | None = None) -> Deferred[int]:
        """Add to a counter (ADR-49), and return its new value. The stream has to have ``allow_msg_counter``.

        When no answer comes, it may have been added or not.

        :param by: any whole number of at most 4,300 digits; a negative one takes away, and 0 only reads.
        :raises CounterError: the stream does not count.

        What :meth:`publish` raises is raised here too. :func:`.counter_value` reads a stored message.
        """
        return increment(self, subject, by, headers, timeout)

    def schedule(
        self,
        subject: str,
        schedule: Schedule,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        **expectations: Unpack[Expectations],
    ) -> Deferred[PubAck]:
        """Have the server publish later, or again and again (ADR-51). The stream has to have ``allow_msg_schedules``.

        :param subject: the schedule's own: one that is there already is replaced. Purge it to end the schedule.
        :param payload: :param headers: of the messages that the schedule produces.
        :raises ScheduleError: the stream does not take the schedule, or knows its target not.

        The other keywords are those of :meth:`publish`; ``ttl`` is that of the schedule itself. What :meth:`publish` raises is raised here
        too.
        """
        return publish_schedule(self, subject, schedule, payload, headers, timeout, expectations)
