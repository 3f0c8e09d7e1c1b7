"""What there is to know of an object, and the JSON that a store keeps of it (ADR-20)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from ..errors import InvalidArgumentError, InvalidHeaderError, JetStreamDecodeError
from ..jetstream.api import parse_object
from ..protocol.headers import Headers, HeadersLike
from .names import bucket_problem, check_object_name, nuid_problem

CHUNK_SIZE = 128 * 1024
"""Bytes of a chunk when nothing else is said."""

MAX_CHUNK_SIZE = (1 << 32) - 1

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectLink:
    """Where a link leads.

    :ivar bucket: the name of an object store.
    :ivar name: the name of an object there; empty for the whole store.
    """

    bucket: str
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMeta:
    """What a user says of an object.

    :ivar name: any text that is not empty, at most 2,048 bytes in UTF-8.
    :ivar description: a text for people.
    :ivar headers: a mapping of names to a value or to several, kept with the object; of no meaning to the store.
    :ivar metadata: texts, kept with the object; of no meaning to the store.
    :ivar max_chunk_size: bytes of a chunk; None for 128 KiB.
    :ivar link: where it leads when it is a link, and no object of its own.
    :raises InvalidArgumentError: a value breaks a rule.
    """

    name: str
    description: str = ""
    headers: HeadersLike = field(default_factory=Headers)
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_chunk_size: int | None = None
    link: ObjectLink | None = None

    def __post_init__(self) -> None:
        check_object_name(self.name)
        if not isinstance(self.description, str):
            raise InvalidArgumentError(f"description {self.description!r} must be a str")
        object.__setattr__(self, "headers", Headers(self.headers))
        if not isinstance(self.metadata, Mapping) or any(not isinstance(text, str) for pair in self.metadata.items() for text in pair):
            raise InvalidArgumentError(f"metadata {self.metadata!r} must be a mapping of texts to texts")
        object.__setattr__(self, "metadata", dict(self.metadata))
        size = self.max_chunk_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_CHUNK_SIZE):
            raise InvalidArgumentError(f"max_chunk_size {size!r} must be a number of bytes between 1 and {MAX_CHUNK_SIZE}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a store knows of an object. The first fields are those of :class:`ObjectMeta`.

    :ivar bucket: the name of the store.
    :ivar nuid: under this id its chunks are stored; each put makes a new one.
    :ivar size: bytes.
    :ivar chunks: their number.
    :ivar digest: ``SHA-256=`` and the digest in base64; empty for links and deleted objects.
    :ivar modified: when this was stored, in UTC, by the server's clock; by our own in what a call that has stored it returns.
    :ivar deleted: it was deleted. Only asked for expressly such objects are shown.
    :ivar revision: the sequence of the message that says all this: another one after each change.
    """

    name: str
    description: str = ""
    headers: Headers = field(default_factory=Headers)
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_chunk_size: int | None = None
    link: ObjectLink | None = None
    bucket: str
    nuid: str = ""
    size: int = 0
    chunks: int = 0
    digest: str = ""
    modified: datetime | None = None
    deleted: bool = False
    revision: int = 0

    @property
    def is_link(self) -> bool:
        """Whether it leads to an object or a store, and has no bytes of its own."""
        return self.link is not None

    @property
    def meta(self) -> ObjectMeta:
        """The part of it that a user says, for example for :meth:`~pynats_twisted.objectstore.store.ObjectStore.update_meta`, with
        ``dataclasses.replace(info.meta, description="…")``."""
        return ObjectMeta(
            name=self.name,
            description=self.description,
            headers=self.headers,
            metadata=self.metadata,
            max_chunk_size=self.max_chunk_size,
            link=self.link,
        )


# --- writing -------------------------------------------------------------------------------------------------


def encode_info(info: ObjectInfo) -> bytes:
    """The JSON of an object as stores keep it. The time is not part of it: it is the message's.

    :raises InvalidArgumentError: it has text that UTF-8 cannot express.
    """
    found: dict[str, Any] = {"name": info.name}
    if info.description:
        found["description"] = info.description
    if info.headers:
        found["headers"] = {name: info.headers.get_all(name) for name in info.headers}
    if info.metadata:
        found["metadata"] = dict(info.metadata)
    options: dict[str, Any] = {}
    if info.link is not None:
        options["link"] = {"bucket": info.link.bucket, **({"name": info.link.name} if info.link.name else {})}
    if info.max_chunk_size is not None:
        options["max_chunk_size"] = info.max_chunk_size
    if options:
        found["options"] = options
    found.update(bucket=info.bucket, nuid=info.nuid, size=info.size, chunks=info.chunks)
    if info.digest:
        found["digest"] = info.digest
    if info.deleted:
        found["deleted"] = True
    try:
        return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"object {info.name!r} has text that UTF-8 cannot express") from None


# --- reading -------------------------------------------------------------------------------------------------


def decode_info(data: bytes, bucket: str, name: str, *, modified: datetime | None = None, revision: int = 0) -> ObjectInfo:
    """Read the JSON of an object, also as other clients write it.

    What says nothing may be missing, empty or ``null``. Name and store are those of the subject under which it was found, whatever the JSON
    says of them. Headers that could not be sent as such are left out.

    :raises JetStreamDecodeError: it is no JSON object, or a value is of the wrong type or not possible.
    """
    try:
        raw = parse_object(data)
        options = _value(raw, "options", dict, {})
        return ObjectInfo(
            name=name,
            description=_value(raw, "description", str, ""),
            headers=_headers(_value(raw, "headers", dict, {})),
            metadata=_metadata(raw),
            max_chunk_size=_number(options, "max_chunk_size") or None,
            link=_link(_value(options, "link", dict, {})),
            bucket=bucket,
            nuid=_nuid(_value(raw, "nuid", str, "")),
            size=_number(raw, "size"),
            chunks=_number(raw, "chunks"),
            digest=_value(raw, "digest", str, ""),
            modified=modified,
            deleted=_value(raw, "deleted", bool, False),
            revision=revision,
        )
    except (JetStreamDecodeError, ValueError) as error:
        raise JetStreamDecodeError(f"what store {bucket!r} keeps of object {name!r} cannot be read: {error}") from None


def _value(raw: Mapping[str, Any], key: str, kind: type[_T], default: _T) -> _T:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"{key} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = _value(raw, key, int, 0)
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {value!r}, not a whole number of 0 or more")
    return value


def _nuid(nuid: str) -> str:
    # It becomes a part of the subject whose messages are removed: one with a wildcard would take other objects along.
    problem = nuid_problem(nuid) if nuid else ""
    if problem:
        raise ValueError(f"nuid {problem}")
    return nuid


def _link(raw: Mapping[str, Any]) -> ObjectLink | None:
    if not raw:
        return None
    bucket, name = _value(raw, "bucket", str, ""), _value(raw, "name", str, "")
    problem = bucket_problem(bucket)
    if problem:
        raise ValueError(f"link.bucket {problem}")
    if name:
        check_object_name(name)
    return ObjectLink(bucket=bucket, name=name)


def _metadata(raw: Mapping[str, Any]) -> dict[str, str]:
    given = raw.get("metadata")
    # A mapping; the ADR's example has a list of mappings.
    parts = given if isinstance(given, list) else [given or {}]
    if not all(isinstance(part, dict) and all(isinstance(value, str) for value in part.values()) for part in parts):
        raise ValueError("metadata has something that is no text")
    return {key: value for part in parts for key, value in part.items()}


def _headers(raw: Mapping[str, Any]) -> Headers:
    headers = Headers()
    for name, value in _header_lines(raw):
        try:
            headers.add(name, value)
        except InvalidHeaderError:
            continue
    return headers


def _header_lines(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, values in raw.items():
        # A list of values; some clients write the one value alone.
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str):
                raise ValueError(f"header {name!r} has a value that is no text")
            yield name, value
