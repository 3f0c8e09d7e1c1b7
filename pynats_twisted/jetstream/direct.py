"""Direct gets (ADR-31): messages read from any server that has the stream, one or very many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import JetStreamNotEnabledError
from .api import MsgGetRequest, check_name, check_subject, encode
from .deferred import deferred
from .direct_batch import Batch, LastMessages, is_pattern
from .direct_pages import PAGE_BYTES, PAGE_MSGS, DirectMessages, nobody_answers, status_error
from .listing import read_stream_info
from .stored import from_direct_get, is_stored

if TYPE_CHECKING:
    from .context import JetStreamContext
    from .stored import StoredMsg


class DirectGet:
    """Reads messages of a stream by direct gets: :meth:`pynats_twisted.jetstream.context.JetStreamContext.direct_get` returns it.

    The stream has to have ``allow_direct``. Any server that has it answers, and mirrors with ``mirror_direct`` do: reading scales, and what
    was published a moment ago may not be found yet. Nothing is asked beforehand, so a user needs no permission but the one to publish to
    ``$JS.API.DIRECT.GET.<stream>``; for :meth:`get_last_msg` of a subject without wildcards, to
    ``$JS.API.DIRECT.GET.<stream>.<subject>``.

    All methods raise :class:`~pynats_twisted.errors.JetStreamNotEnabledError` when nobody answers: there is no such stream, or it has not
    ``allow_direct``.

    :ivar stream_name: the stream's name.
    """

    def __init__(self, js: JetStreamContext, stream_name: str) -> None:
        check_name("stream", stream_name)
        self._js = js
        self.stream_name = stream_name

    def __repr__(self) -> str:
        return f"<DirectGet of stream {self.stream_name!r}>"

    # --- one -------------------------------------------------------------------------------------------------

    @deferred
    async def get_msg(self, seq: int, *, timeout: float | None = None) -> StoredMsg:
        """The message with this sequence.

        :param timeout: seconds; the context's by default.
        :raises MessageNotFoundError: there is none, or not any more.
        """
        return await self._get(MsgGetRequest(seq=seq), "", timeout)

    @deferred
    async def get_last_msg(self, subject: str, *, timeout: float | None = None) -> StoredMsg:
        """The last message of a subject.

        :param subject: with wildcards: the last one of all that match. Without, it is a part of the request's own subject.
        :raises MessageNotFoundError: there is none.
        """
        check_subject("subject", subject, wildcards=True)
        if is_pattern(subject):
            return await self._get(MsgGetRequest(last_by_subj=subject), "", timeout)
        return await self._get(None, subject, timeout)

    @deferred
    async def get_next_msg(self, seq: int, subject: str, *, timeout: float | None = None) -> StoredMsg:
        """The first message of a subject from a sequence on.

        :param seq: the message with this sequence may be the one.
        :param subject: may have wildcards.
        :raises MessageNotFoundError: there is none.
        """
        check_subject("subject", subject, wildcards=True)
        return await self._get(MsgGetRequest(seq=seq, next_by_subj=subject), "", timeout)

    async def _get(self, request: MsgGetRequest | None, subject: str, timeout: float | None) -> StoredMsg:
        asked = self._js.prefix.direct_get(self.stream_name, subject)
        try:
            msg = await self._js.request(asked, b"" if request is None else encode(request), None, timeout)
        except JetStreamNotEnabledError:
            raise nobody_answers(asked) from None
        if not is_stored(msg):
            raise status_error(msg)
        return from_direct_get(msg)[0]

    # --- many ------------------------------------------------------------------------------------------------

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
        """Messages in the order of their sequences, for ``async for``. API level 1.

        :param limit: so many at most; None for all that there are, also those that are stored meanwhile.
        :param seq: begin at this sequence; the first one by default.
        :param start_time: begin with the first message of this time or later; not together with ``seq``.
        :param subject: only messages whose subject matches; may have wildcards.
        :param page_msgs: :param page_bytes: how much is asked for at once, and waits here at most.
        :param timeout: seconds without a message after which the reading fails; the context's timeout by default.
        :raises JetStreamConfigError: a value breaks a rule.

        What the reading raises: see :class:`~pynats_twisted.jetstream.direct_pages.DirectMessages`. No message at all is no error.
        """
        if subject is not None:
            check_subject("subject", subject, wildcards=True)
        if seq is None and start_time is None:
            seq = 1
        first = MsgGetRequest(seq=seq or 0, start_time=start_time, next_by_subj=subject or "")
        asked = self._js.prefix.direct_get(self.stream_name)
        return Batch(self._js, asked, first, limit, page_msgs, page_bytes, timeout)

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
        """The last message of each subject, once, for ``async for``. API level 1.

        A server answers for at most 1,024 subjects at once. More are asked for in parts; where wildcards match more, the subjects are asked
        for first, which needs the permission to ask for the stream's info. The messages of a part come in the order of their sequences.

        A subject that is written to while the parts are read is not missed: its message is one that was the last at some time meanwhile. To
        have all as they were at one moment, say which; what the stream has dropped since then is missing then.

        :param subjects: may have wildcards; subjects without a message are left out.
        :param up_to_seq: as it was at this sequence.
        :param up_to_time: as it was before this time; not together with ``up_to_seq``.
        :param page_msgs: :param page_bytes: how much is asked for at once, and waits here at most.
        :param timeout: seconds without a message after which the reading fails; the context's timeout by default.
        :raises JetStreamConfigError: a value breaks a rule.

        What the reading raises: see :class:`~pynats_twisted.jetstream.direct_pages.DirectMessages`.
        """
        request = MsgGetRequest(multi_last=subjects, up_to_seq=up_to_seq, up_to_time=up_to_time)
        asked = self._js.prefix.direct_get(self.stream_name)
        return LastMessages(self._js, asked, request, self._subjects, page_msgs, page_bytes, timeout)

    async def _subjects(self, pattern: str) -> tuple[Sequence[str], int]:
        """The subjects that match, and the stream's last sequence when they were asked for."""
        info = await read_stream_info(self._js, self.stream_name, subjects_filter=pattern)
        return tuple(info.state.subjects), info.state.last_seq
