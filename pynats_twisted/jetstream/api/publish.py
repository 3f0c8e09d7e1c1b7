"""What the server answers to publishes: acks, and the flow of fast ingest (ADR-50).

These come once for each message, so they are plain objects, read by code of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import JetStreamApiError, JetStreamDecodeError
from .api_errors import api_error
from .codec import parse_object

MAX_ACK = 1024 * 1024
"""Longer answers to publishes are refused unread."""

# Nearly every answer is no more than this, and so it is read in half the time.
_SHORT = re.compile(rb'\{"stream":"([ !#-\[\]-~]*)", ?"seq":(0|[1-9][0-9]{0,19})\}').fullmatch

_KNOWN = frozenset({"stream", "seq", "domain", "duplicate", "val", "batch", "count", "type", "error"})


@dataclass(kw_only=True, slots=True)
class PubAck:
    """A publish is stored.

    :ivar stream: the stream that has it.
    :ivar seq: its sequence there; of a batch, that of the last message.
    :ivar domain: the JetStream domain, or ``""``.
    :ivar duplicate: a message with this id was there already, with this sequence; nothing was stored.
    :ivar val: of a counter: its value after the publish, as digits (it may be too large for any machine's integer).
    :ivar batch: the id of the batch that was committed, or ``""``.
    :ivar count: the messages of that batch.
    :ivar unknown: what else the server sent.
    """

    stream: str
    seq: int
    domain: str = ""
    duplicate: bool = False
    val: str = ""
    batch: str = ""
    count: int = 0
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(kw_only=True, slots=True)
class BatchFlowAck:
    """Fast ingest goes on.

    :ivar seq: messages of the batch up to this one are stored (when gaps end the batch), or were handled (when they do not).
    :ivar msgs: the next ack comes after so many messages.
    """

    seq: int
    msgs: int


@dataclass(kw_only=True, slots=True)
class BatchFlowGap:
    """Messages of a batch were lost on their way: from ``last_seq`` on, up to but without ``seq``."""

    last_seq: int
    seq: int


@dataclass(kw_only=True, slots=True)
class BatchFlowError:
    """A message of a batch was refused.

    :ivar seq: which.
    :ivar error: why; not raised.
    """

    seq: int
    error: JetStreamApiError


def decode_pub_ack(data: bytes | bytearray | memoryview) -> PubAck:
    """Read the answer to a publish.

    :raises JetStreamApiError: the publish was not stored; the class follows from the ``err_code``.
    :raises JetStreamDecodeError: it is no such answer.
    """
    short = _SHORT(data)
    if short is not None:
        return PubAck(stream=str(short[1], "ascii"), seq=int(short[2]))
    return _pub_ack(parse_object(data, MAX_ACK))


def decode_batch_flow(data: bytes | bytearray | memoryview) -> PubAck | BatchFlowAck | BatchFlowGap | BatchFlowError:
    """Read what comes while a batch of fast ingest is published. A :class:`PubAck` is the end of the batch.

    :raises JetStreamApiError: the batch ended with an error.
    :raises JetStreamDecodeError: it is none of these.
    """
    raw = parse_object(data, MAX_ACK)
    kind = raw.get("type")
    if kind == "ack":
        return BatchFlowAck(seq=_number(raw, "seq"), msgs=_number(raw, "msgs"))
    if kind == "gap":
        return BatchFlowGap(last_seq=_number(raw, "last_seq"), seq=_number(raw, "seq"))
    if kind == "err":
        return BatchFlowError(seq=_number(raw, "seq"), error=api_error(raw.get("error") or {}))
    return _pub_ack(raw)


def decode_counter(data: bytes | bytearray | memoryview) -> int:
    """The value in a stored message of a counter (ADR-49). It may have any number of digits, up to 4,300.

    :raises JetStreamDecodeError: the message is not one of a counter.
    """
    text = parse_object(data, MAX_ACK).get("val")
    digits = text.removeprefix("-") if isinstance(text, str) else ""
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4300:
        raise JetStreamDecodeError(f"a counter has the value {str(text)[:80]!r}, which is no whole number of at most 4,300 digits")
    return int(str(text))


def _pub_ack(raw: dict[str, Any]) -> PubAck:
    # A refusal has a stream and the sequence 0 beside its error: the error comes first.
    error = raw.get("error")
    if error is not None:
        raise api_error(error)
    try:
        stream, seq = raw["stream"], raw["seq"]
    except KeyError as missing:
        raise JetStreamDecodeError(f"the answer to a publish has no {missing.args[0]}") from None
    if type(stream) is not str or type(seq) is not int:
        raise JetStreamDecodeError("the answer to a publish has a stream or a seq of the wrong type")
    if len(raw) == 2:
        return PubAck(stream=stream, seq=seq)
    ack = PubAck(
        stream=stream,
        seq=seq,
        domain=raw.get("domain") or "",
        duplicate=raw.get("duplicate") or False,
        val=raw.get("val") or "",
        batch=raw.get("batch") or "",
        count=raw.get("count") or 0,
    )
    texts = type(ack.domain) is type(ack.val) is type(ack.batch) is str
    if not texts or type(ack.duplicate) is not bool or type(ack.count) is not int:
        raise JetStreamDecodeError("the answer to a publish has a field of the wrong type")
    if not raw.keys() <= _KNOWN:
        ack.unknown = {key: value for key, value in raw.items() if key not in _KNOWN}
    return ack


def _number(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key)
    if type(value) is not int:
        raise JetStreamDecodeError(f"a message of fast ingest has no number {key}")
    return value
