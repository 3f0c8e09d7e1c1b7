"""What services say of themselves (ADR-32): the answers to ``$SRV.PING``, ``INFO`` and ``STATS``, where to ask, and the headers of errors.

Pure data, without I/O or a clock. Durations are seconds and times are datetimes in UTC; the wire has nanoseconds and RFC 3339.
Reading is tolerant (what may be left out may also be ``null``, and what is unknown is kept), writing is exact: every field that the ADR
names is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from ..errors import InvalidArgumentError, ServiceDecodeError, ServiceResponseError
from ..protocol.message import Msg
from ..protocol.subjects import check_publish_subject
from .wire import NANOSECONDS, format_time, read_list, read_seconds, read_strings, read_text, read_time, read_whole

DEFAULT_PREFIX = "$SRV"
"""What the subjects of all requests below begin with, unless a service or a caller chose another."""

DEFAULT_QUEUE = "q"
"""The queue group of an endpoint, unless it, its group or its service chose another, or none."""

ERROR_HEADER = "Nats-Service-Error"
"""The header with the text of an error."""

ERROR_CODE_HEADER = "Nats-Service-Error-Code"
"""The header with the code of an error, a whole number."""

VERBS = ("PING", "INFO", "STATS")

MAX_ANSWER = 64 * 1024 * 1024
"""Longer answers, in bytes, are refused unread."""

_TYPE_PREFIX = "io.nats.micro.v1."
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ID = re.compile(r"[^\s\x00-\x20\x7f.*>]+")
_SHOWN = 80

_A = TypeVar("_A", bound="Answer")


# --- subjects ------------------------------------------------------------------------------------------------


def is_service_name(name: object) -> bool:
    """Whether this may be the name of a service or an endpoint: a text of ASCII letters, digits, ``-`` and ``_``, not empty."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def control_subject(verb: str, name: str | None = None, id: str | None = None, *, prefix: str = DEFAULT_PREFIX) -> str:
    """Where all services, those of a name, or one instance are asked.

    :param verb: ``"PING"``, ``"INFO"`` or ``"STATS"``.
    :param name: a service's name; None for all services.
    :param id: an instance's id; None for all of the name. It needs the name.
    :raises InvalidSubjectError: the prefix is no subject to publish to.
    :raises InvalidArgumentError: the verb, the name or the id breaks a rule.
    """
    if verb not in VERBS:
        raise InvalidArgumentError(f"verb {verb!r} is none of {', '.join(VERBS)}")
    check_publish_subject(prefix)
    subject = f"{prefix}.{verb}"
    if name is None:
        if id is not None:
            raise InvalidArgumentError(f"id {id!r} needs the name of its service")
        return subject
    if not is_service_name(name):
        raise InvalidArgumentError(f"service name {name!r} must be one or more ASCII letters, digits, '-' and '_'")
    if id is None:
        return f"{subject}.{name}"
    if not isinstance(id, str) or _ID.fullmatch(id) is None:
        raise InvalidArgumentError(f"service id {id!r} must be a token of a subject: no white space, '.', '*' or '>'")
    return f"{subject}.{name}.{id}"


# --- errors --------------------------------------------------------------------------------------------------


def error_headers(code: int, description: str) -> dict[str, str]:
    """The headers of a reply that says an error.

    :param code: a whole number, usually as HTTP has them: 400 to 599.
    :param description: for people. Line ends and other control characters become spaces, because a header cannot have them.
    :raises InvalidArgumentError: the code is no whole number, or the description no text.
    """
    if not isinstance(code, int) or isinstance(code, bool):
        raise InvalidArgumentError(f"error code {code!r} must be a whole number")
    if not isinstance(description, str):
        raise InvalidArgumentError(f"error description {description!r} must be a str")
    text = re.sub(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]+", " ", description).encode("utf-8", "replace").decode().strip()
    return {ERROR_HEADER: text, ERROR_CODE_HEADER: str(int(code))}


def response_error(msg: Msg) -> ServiceResponseError | None:
    """The error that a reply of a service says, or None. One of the two headers is enough."""
    if not msg.raw_headers:
        return None
    headers = msg.headers
    text, code = headers.get(ERROR_HEADER), headers.get(ERROR_CODE_HEADER)
    if text is None and code is None:
        return None
    number = int(code) if code is not None and re.fullmatch(r"-?[0-9]{1,18}", code) else 0
    return ServiceResponseError(number, text or "", msg)


def is_end(msg: Msg) -> bool:
    """Whether this is the end of an answer in several parts: an empty reply without headers."""
    return not msg.data and not msg.raw_headers


# --- what comes in answers -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointInfo:
    """An endpoint.

    :ivar subject: where it listens. It may have wildcards.
    :ivar queue_group: its queue group; ``""`` for none.
    :ivar unknown: what came beside the fields above. It is not sent, and does not count when objects are compared.
    """

    name: str
    subject: str
    queue_group: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"name": self.name, "subject": self.subject, "queue_group": self.queue_group, "metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> EndpointInfo:
        """Read it.

        :raises ValueError: a value is missing or of the wrong type.
        """
        return cls(
            name=read_text(raw, "name"),
            subject=read_text(raw, "subject"),
            queue_group=read_text(raw, "queue_group", ""),
            metadata=read_strings(raw, "metadata"),
            unknown=_rest(raw, "name", "subject", "queue_group", "metadata"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointStats:
    """What an endpoint has done since its service began, or since its numbers were reset.

    :ivar subject: where it listens.
    :ivar queue_group: its queue group; ``""`` for none.
    :ivar num_requests: requests that came.
    :ivar num_errors: how many of them ended in an error.
    :ivar last_error: the last error, or ``""``.
    :ivar processing_time: seconds that its handler took for all of them.
    :ivar average_processing_time: seconds for one of them.
    :ivar data: what the service's stats handler added: anything that JSON can express. None for nothing.
    :ivar unknown: what came beside the fields above. It is not sent, and does not count when objects are compared.
    """

    name: str
    subject: str
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: float = 0.0
    average_processing_time: float = 0.0
    data: Any = None
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As the wire has it. ``data`` is left out where there is none."""
        found: dict[str, Any] = {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": self.num_requests,
            "num_errors": self.num_errors,
            "last_error": self.last_error,
            "processing_time": round(self.processing_time * NANOSECONDS),
            "average_processing_time": round(self.average_processing_time * NANOSECONDS),
        }
        if self.data is not None:
            found["data"] = self.data
        return found

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> EndpointStats:
        """Read it.

        :raises ValueError: a value is missing or of the wrong type.
        """
        return cls(
            name=read_text(raw, "name"),
            subject=read_text(raw, "subject"),
            queue_group=read_text(raw, "queue_group", ""),
            num_requests=read_whole(raw, "num_requests"),
            num_errors=read_whole(raw, "num_errors"),
            last_error=read_text(raw, "last_error", ""),
            processing_time=read_seconds(raw, "processing_time"),
            average_processing_time=read_seconds(raw, "average_processing_time"),
            data=raw.get("data"),
            unknown=_rest(
                raw,
                *("name", "subject", "queue_group", "num_requests", "num_errors", "last_error"),
                *("processing_time", "average_processing_time", "data"),
            ),
        )


# --- the answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The base of the answers: which instance of which service it is that speaks.

    :ivar name: what kind of service it is; all its instances have the same.
    :ivar id: which instance; no other has it.
    :ivar version: its version (SemVer).
    :ivar metadata: what its configuration says.
    :ivar unknown: what came beside the fields. It is not sent, and does not count when answers are compared.
    :ivar rtt: seconds from the request to this answer, where a discovery asked; 0 otherwise. It is not sent, and does not count either.
    """

    name: str
    id: str
    version: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)
    rtt: float = field(default=0.0, compare=False)

    verb: ClassVar[str] = ""

    @classmethod
    def type_name(cls) -> str:
        """What the wire calls this kind of answer."""
        return f"{_TYPE_PREFIX}{cls.verb.lower()}_response"

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"type": self.type_name(), "name": self.name, "id": self.id, "version": self.version, "metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls: type[_A], raw: dict[str, Any], **more: Any) -> _A:
        """Read it.

        :param more: fields of a subclass that were read already.
        :raises ValueError: a value is missing or of the wrong type.
        """
        return cls(
            name=read_text(raw, "name"),
            id=read_text(raw, "id"),
            version=read_text(raw, "version"),
            metadata=read_strings(raw, "metadata"),
            unknown=_rest(raw, "type", "name", "id", "version", "metadata", *more),
            **more,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ping(Answer):
    """The answer to PING."""

    verb: ClassVar[str] = "PING"


@dataclass(frozen=True, kw_only=True, slots=True)
class Info(Answer):
    """The answer to INFO: what a service is.

    :ivar endpoints: where it can be asked, in the order in which they were added.
    """

    description: str = ""
    endpoints: Sequence[EndpointInfo] = ()

    verb: ClassVar[str] = "INFO"

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", tuple(self.endpoints))

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        endpoints = [endpoint.to_json() for endpoint in self.endpoints]
        return {**Answer.to_json(self), "description": self.description, "endpoints": endpoints}

    @classmethod
    def from_json(cls, raw: dict[str, Any], **more: Any) -> Info:
        """Read it.

        :raises ValueError: a value is missing or of the wrong type.
        """
        endpoints = read_list(raw, "endpoints", EndpointInfo.from_json)
        return super(Info, cls).from_json(raw, description=read_text(raw, "description", ""), endpoints=endpoints, **more)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats(Answer):
    """The answer to STATS: what a service has done.

    :ivar started: when it began, with a time zone; cut off after the microseconds.
    """

    started: datetime
    endpoints: Sequence[EndpointStats] = ()

    verb: ClassVar[str] = "STATS"

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", tuple(self.endpoints))

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        endpoints = [endpoint.to_json() for endpoint in self.endpoints]
        return {**Answer.to_json(self), "endpoints": endpoints, "started": format_time(self.started)}

    @classmethod
    def from_json(cls, raw: dict[str, Any], **more: Any) -> Stats:
        """Read it.

        :raises ValueError: a value is missing or of the wrong type.
        """
        endpoints = read_list(raw, "endpoints", EndpointStats.from_json)
        return super(Stats, cls).from_json(raw, started=read_time(raw, "started"), endpoints=endpoints, **more)


# --- bytes ---------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_parse = json.JSONDecoder(parse_constant=_no_constant).decode
_format = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(answer: Answer) -> bytes:
    """The JSON of an answer.

    :raises InvalidArgumentError: a value cannot be written: a time without a zone, or ``data`` that JSON cannot express.
    """
    try:
        return _format(answer.to_json()).encode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(f"{type(answer).__name__} of service {answer.name!r} cannot be written as JSON: {error}") from error


def decode(kind: type[_A], data: bytes | bytearray | memoryview) -> _A:
    """Read an answer.

    :param kind: :class:`Ping`, :class:`Info` or :class:`Stats`.
    :raises ServiceDecodeError: it is longer than :data:`MAX_ANSWER`, no JSON object, an answer of another type, or lacks what every answer
        has; the text names the field.
    """
    if len(data) > MAX_ANSWER:
        raise ServiceDecodeError(f"an answer has {len(data)} bytes, the limit is {MAX_ANSWER}")
    try:
        raw = _parse(str(data, "utf-8"))
    except RecursionError:
        raise ServiceDecodeError("an answer is nested too deep") from None
    except ValueError as error:
        raise ServiceDecodeError(f"an answer is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ServiceDecodeError(f"an answer is a JSON {type(raw).__name__}, not an object")
    if raw.get("type") != kind.type_name():
        raise ServiceDecodeError(f"an answer is of type {str(raw.get('type'))[:_SHOWN]!r}, not of {kind.type_name()!r}")
    try:
        return kind.from_json(raw)
    except ValueError as error:
        raise ServiceDecodeError(f"{kind.__name__}: {error}") from None


def _rest(raw: dict[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in known}
