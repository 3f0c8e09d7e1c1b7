"""A message that a consumer delivered, and the answers that it may get."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NoReturn

from ..errors import InvalidArgumentError, MessageAlreadyAckedError, NotJetStreamMessageError
from .api import JsMsgMetadata, parse_ack_subject, to_nanoseconds
from .deferred import deferred

if TYPE_CHECKING:
    from ..protocol.headers import Headers
    from ..protocol.message import Msg
    from .context import JetStreamContext

ACK_PREFIX = "$JS.ACK."
"""What the reply subject of every message begins with that a consumer delivered."""

_ACK = b"+ACK"
_NAK = b"-NAK"
_IN_PROGRESS = b"+WPI"
_TERM = b"+TERM"


class JsMsg:
    """A message that a consumer delivered.

    It waits for one final answer: :meth:`ack`, :meth:`ack_sync`, :meth:`nak`, :meth:`term` or :meth:`term_sync`. Until one is given the
    server delivers it again each time that the consumer's ``ack_wait`` has passed; :meth:`in_progress` makes it wait again from the
    start. A second final answer is an error, because the server would ignore it.

    An answer is published like any other message: while there is no connection it is kept, and sent after reconnecting.

    :ivar msg: the message as the client has it.
    :ivar acked: a final answer of any kind was given, or is on its way (:meth:`ack_sync`, :meth:`term_sync`).
    """

    __slots__ = ("_js", "_metadata", "acked", "msg")

    def __init__(self, msg: Msg, js: JetStreamContext) -> None:
        self.msg = msg
        self._js = js
        self._metadata: JsMsgMetadata | None = None
        self.acked = False

    def __repr__(self) -> str:
        return f"<JsMsg {self.msg.subject!r} {len(self.msg.data)} bytes{' acked' if self.acked else ''}>"

    # --- what came -------------------------------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self.msg.subject

    @property
    def data(self) -> bytes:
        """The payload."""
        return self.msg.data

    @property
    def headers(self) -> Headers:
        """The headers; read when first asked for."""
        return self.msg.headers

    @property
    def raw_headers(self) -> bytes:
        """The header block as it came, or ``b""``."""
        return self.msg.raw_headers

    @property
    def reply(self) -> str:
        """Where answers go: the ack subject."""
        return self.msg.reply

    @property
    def size(self) -> int:
        """Bytes of subject, reply, headers and payload together: what ``max_bytes`` of a pull counts."""
        return self.msg.size

    @property
    def metadata(self) -> JsMsgMetadata:
        """Where it comes from: stream, sequence, deliveries and so on; read from the ack subject when first asked for.

        :raises NotJetStreamMessageError: no consumer delivered it.
        """
        metadata = self._metadata
        if metadata is None:
            metadata = self._metadata = parse_ack_subject(self.msg.reply)
        return metadata

    # --- answers ---------------------------------------------------------------------------------------------

    def ack(self) -> Awaitable[None]:
        """It is done: the server does not deliver it again.

        Nothing tells whether the server got this; :meth:`ack_sync` does.

        :returns: what :meth:`pynats_twisted.NatsClient.publish` returns: done at once, unless too much waits to be sent.
        :raises MessageAlreadyAckedError: a final answer was given before.
        :raises NotJetStreamMessageError: no consumer delivered the message.

        What ``publish`` raises is raised here too, and the message can still be answered then.
        """
        reply = self.msg.reply
        if self.acked or not reply.startswith(ACK_PREFIX):
            self._refuse("ack")
        done = self._js.client.publish(reply, _ACK)
        self.acked = True
        return done

    def nak(self, delay: float | None = None) -> Awaitable[None]:
        """It could not be handled: the server is to deliver it again.

        :param delay: seconds that it waits before; at once by default. The consumer's ``backoff`` does not count then.
        :raises InvalidArgumentError: the delay is not a number of seconds, 0 or more.

        Returns and raises as :meth:`ack`.
        """
        return self._settle("nak", _nak(delay))

    def term(self, reason: str | None = None) -> Awaitable[None]:
        """It can never be handled: the server does not deliver it again.

        :param reason: one line for the advisory that the server publishes; line ends in it become spaces.
        :raises InvalidArgumentError: the reason is not a str.

        Returns and raises as :meth:`ack`.
        """
        return self._settle("term", _term(reason))

    def in_progress(self) -> Awaitable[None]:
        """It is still being worked on: ``ack_wait`` begins again. Not final, and may be given any number of times.

        Returns and raises as :meth:`ack`.
        """
        if self.acked or not self.msg.reply.startswith(ACK_PREFIX):
            self._refuse("in_progress")
        return self._js.client.publish(self.msg.reply, _IN_PROGRESS)

    @deferred
    async def ack_sync(self, timeout: float | None = None) -> None:
        """As :meth:`ack`, and fires when the server has taken it.

        When it fails, the message can be answered again: whether the server took the answer is unknown, and taking it twice does no
        harm.

        :param timeout: seconds; the context's by default.
        :raises RequestTimeoutError: the server did not say that it took it.
        :raises NoRespondersError: nobody takes answers: the consumer is gone, or wants no acks.
        :raises MessageAlreadyAckedError: :raises NotJetStreamMessageError: as :meth:`ack`.

        What :meth:`pynats_twisted.NatsClient.request` raises is raised here too.
        """
        await self._settle_sync("ack_sync", _ACK, timeout)

    @deferred
    async def term_sync(self, reason: str | None = None, timeout: float | None = None) -> None:
        """As :meth:`term`, and fires when the server has taken it. Raises as :meth:`ack_sync`."""
        await self._settle_sync("term_sync", _term(reason), timeout)

    def _settle(self, call: str, body: bytes) -> Awaitable[None]:
        if self.acked or not self.msg.reply.startswith(ACK_PREFIX):
            self._refuse(call)
        done = self._js.client.publish(self.msg.reply, body)
        self.acked = True
        return done

    async def _settle_sync(self, call: str, body: bytes, timeout: float | None) -> None:
        if self.acked or not self.msg.reply.startswith(ACK_PREFIX):
            self._refuse(call)
        js = self._js
        # From here on, so that nobody else answers meanwhile.
        self.acked = True
        try:
            await js.client.request(self.msg.reply, body, None, js.timeout if timeout is None else timeout)
        except BaseException:
            self.acked = False
            raise

    def _refuse(self, call: str) -> NoReturn:
        if not self.msg.reply.startswith(ACK_PREFIX):
            text = f"{call}(): no consumer delivered the message on {self.msg.subject!r}: its reply subject is {self.msg.reply[:80]!r}"
            raise NotJetStreamMessageError(text)
        raise MessageAlreadyAckedError(f"{call}(): the message on {self.msg.subject!r} has got its final answer")


def _nak(delay: float | None) -> bytes:
    if delay is None:
        return _NAK
    try:
        nanoseconds = to_nanoseconds(delay)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"delay={delay!r} {error}") from None
    if nanoseconds < 0:
        raise InvalidArgumentError(f"delay={delay!r} must not be negative")
    return b'-NAK {"delay":%d}' % nanoseconds if nanoseconds else _NAK


def _term(reason: str | None) -> bytes:
    if reason is None:
        return _TERM
    if not isinstance(reason, str):
        raise InvalidArgumentError(f"reason={reason!r} must be a str")
    line = " ".join(reason.split())
    return b"+TERM " + line.encode("utf-8", "backslashreplace") if line else _TERM
