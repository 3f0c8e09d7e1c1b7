"""What a client sends: commands to bytes. Every value that a caller passes is checked here or by what it calls."""

from __future__ import annotations

import json
from typing import Any

from ..errors import HeadersNotSupportedError, InvalidArgumentError, InvalidSubscriptionError, MaxPayloadExceededError
from .headers import Headers, HeadersLike
from .subjects import check_publish_subject, check_queue, check_subscribe_subject, is_plain

PING = b"PING\r\n"
PONG = b"PONG\r\n"

_MAX_CACHED = 4096
_MAX_CACHED_SUBJECT = 256

Payload = bytes | bytearray | memoryview


class PublishEncoder:
    """Makes PUB and HPUB. Remembers the subjects that it found valid, a bounded number of them.

    :ivar max_payload: bytes of headers and payload together that the server accepts; None where it is not known.
    :ivar headers_supported: False where the server said that it takes no headers.
    """

    __slots__ = ("_known", "headers_supported", "max_payload")

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}
        self.max_payload: int | None = None
        self.headers_supported = True

    def encode(
        self, out: list[bytes], subject: str, payload: Payload = b"", reply: str | None = None, headers: HeadersLike | None = None
    ) -> int:
        """Append the parts of one publish to ``out`` and return how many bytes they are together.

        Nothing is appended when an error is raised.

        :raises InvalidSubjectError: the subject or the reply is not valid to publish to.
        :raises InvalidHeaderError: a header name or value cannot be sent.
        :raises InvalidArgumentError: the payload is not bytes.
        :raises MaxPayloadExceededError: headers and payload are more than the server takes.
        :raises HeadersNotSupportedError: there are headers and the server takes none.
        """
        if payload.__class__ is not bytes:
            payload = _bytes(payload)
        try:
            prefix = self._known.get(subject) or self._learn(subject)
        except TypeError:
            # Not hashable, and so no str: the check says it.
            prefix = self._learn(subject)
        size = len(payload)
        if not reply and not headers:
            limit = self.max_payload
            if limit is not None and size > limit:
                raise MaxPayloadExceededError(size, limit)
            head = b"PUB %b%d\r\n" % (prefix, size)
        else:
            if reply:
                # Nearly every reply subject is a new one: remembering them would push out the subjects.
                prefix += reply.encode() + b" " if reply.__class__ is str and is_plain(reply) else _checked(reply)
            if headers and headers.__class__ is not Headers:
                headers = Headers(headers)
            if headers:
                if not self.headers_supported:
                    raise HeadersNotSupportedError("the server does not support headers")
                block = headers.encode()  # type: ignore[union-attr]
                size += len(block)
                if self.max_payload is not None and size > self.max_payload:
                    raise MaxPayloadExceededError(size, self.max_payload)
                head = b"HPUB %b%d %d\r\n%b" % (prefix, len(block), size, block)
                size -= len(block)
            else:
                if self.max_payload is not None and size > self.max_payload:
                    raise MaxPayloadExceededError(size, self.max_payload)
                head = b"PUB %b%d\r\n" % (prefix, size)
        out.append(head)
        out.append(payload)
        out.append(b"\r\n")
        return len(head) + size + 2

    def _learn(self, subject: str) -> bytes:
        encoded = subject.encode() + b" " if subject.__class__ is str and is_plain(subject) else _checked(subject)
        # An inbox is nearly always a new one, as is where an ack goes; and what is allowed for a literal subject is not for its equal.
        if len(encoded) <= _MAX_CACHED_SUBJECT and subject[0] not in "_$" and subject.__class__ is str:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[subject] = encoded
        return encoded


def _checked(subject: str) -> bytes:
    check_publish_subject(subject)
    return subject.encode() + b" "


def _bytes(payload: Any) -> bytes:
    # A buffer that the caller may change later is copied: it waits for its turn.
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    raise InvalidArgumentError(f"the payload is a {type(payload).__name__}, not bytes")


def encode_subscribe(subject: str, queue: str, sid: int) -> bytes:
    """SUB.

    :raises InvalidSubjectError: the subject is not valid to subscribe to.
    :raises InvalidQueueError: the queue group's name is not valid.
    :raises InvalidSubscriptionError: the sid is not a positive integer.
    """
    check_subscribe_subject(subject)
    check_sid(sid)
    if queue:
        check_queue(queue)
        return f"SUB {subject} {queue} {sid}\r\n".encode()
    return f"SUB {subject} {sid}\r\n".encode()


def encode_unsubscribe(sid: int, limit: int = 0) -> bytes:
    """UNSUB, at once (``limit`` 0) or after that many messages."""
    return f"UNSUB {sid} {limit}\r\n".encode() if limit else f"UNSUB {sid}\r\n".encode()


def encode_connect(fields: dict[str, Any]) -> bytes:
    """CONNECT with its JSON."""
    return b"CONNECT " + json.dumps(fields, separators=(",", ":")).encode() + b"\r\n"


def check_sid(sid: int) -> None:
    """Check that a subscription id can be sent.

    :raises InvalidSubscriptionError: it is not an integer from 1 to 2**63 - 1.
    """
    if not isinstance(sid, int) or isinstance(sid, bool) or not 0 < sid < 1 << 63:
        raise InvalidSubscriptionError(f"sid {sid!r} is not an integer from 1 to 2**63 - 1")


def check_limit(limit: int) -> None:
    """Check a number of messages after which a subscription ends; 0 is at once.

    :raises InvalidSubscriptionError: it is not an integer of 0 or more.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 1 << 63:
        raise InvalidSubscriptionError(f"limit {limit!r} is not an integer of 0 or more")
