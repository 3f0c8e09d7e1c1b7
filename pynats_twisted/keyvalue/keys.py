"""Keys: what they may be, and under which subjects they are stored and published (ADR-8, ADR-19)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidKeyError, InvalidNameError
from ..jetstream.api import ApiPrefix
from ..jetstream.api.patterns import shortened
from ..jetstream.api.subjects import DEFAULT_PREFIX
from .codecs import encode_pattern

if TYPE_CHECKING:
    from ..jetstream.api import StreamConfig, StreamSource
    from .codecs import KeyCodec

STREAM_PREFIX = "KV_"
MAX_BUCKET = 252
"""Characters of a bucket's name: a stream's name has 255 at most."""

RESERVED = "_kv"
"""Keys that begin with this are the implementations' own (ADR-6)."""

_BUCKET = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"(?!_kv)[-/_=A-Za-z0-9]+(?:\.[-/_=A-Za-z0-9]+)*")
_PATTERN = re.compile(r"(?:(?:[-/_=A-Za-z0-9]+|\*)\.)*(?:[-/_=A-Za-z0-9]+|\*|>)")

_CHARACTERS = "must have letters, digits and - / _ = only, in parts that dots divide, none of them empty"


# --- rules ---------------------------------------------------------------------------------------------------


def check_key(key: str) -> None:
    """Check a key as it is stored: letters, digits and ``- / _ =``, in parts that dots divide, none of them empty.

    :raises InvalidKeyError: it breaks the rule, or is reserved: it begins with ``_kv``.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidKeyError(f"key {shortened(key)} {_key_problem(key)}")


def _key_problem(key: object) -> str:
    if not isinstance(key, str):
        return "must be a str"
    if not key:
        return "must not be empty"
    if key.startswith(RESERVED):
        return f"must not begin with {RESERVED}, which is reserved"
    return _CHARACTERS


def check_pattern(pattern: str) -> None:
    """Check a pattern of keys: a key, in which ``*`` stands for any part, and ``>`` for all parts from there on.

    :raises InvalidKeyError: it breaks the rule.
    """
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
        if not isinstance(pattern, str):
            problem = "must be a str"
        elif not pattern:
            problem = "must not be empty; '>' is every key"
        else:
            problem = f"{_CHARACTERS}; '*' may be any part of it, and '>' the last one"
        raise InvalidKeyError(f"pattern {shortened(pattern)} {problem}")


def bucket_problem(bucket: object) -> str:
    """What is wrong with the name of a bucket, or an empty text."""
    if not isinstance(bucket, str):
        return "must be a str"
    if not _BUCKET.fullmatch(bucket):
        return "must have letters, digits, - and _ only, and not be empty"
    if len(bucket) > MAX_BUCKET:
        return f"must be at most {MAX_BUCKET} characters long"
    return ""


def stream_name(bucket: str) -> str:
    """The name of the stream that is a bucket.

    :raises InvalidNameError: the bucket's name breaks a rule.
    """
    problem = bucket_problem(bucket)
    if problem:
        raise InvalidNameError(f"bucket name {shortened(bucket)} {problem}")
    return STREAM_PREFIX + bucket


def bucket_of_stream(name: str) -> str | None:
    """The bucket that a stream is by its name, or None."""
    bucket = name.removeprefix(STREAM_PREFIX)
    return bucket if bucket != name and not bucket_problem(bucket) else None


def key_prefix(bucket: str) -> str:
    """What the subjects of all keys of a bucket begin with."""
    return f"$KV.{bucket}."


# --- subjects ------------------------------------------------------------------------------------------------


class KeySubjects:
    """The subjects of a bucket's keys.

    A mirror stores the keys of its origin, under the origin's subjects, and nothing can be published to it: who writes to a mirror
    writes to the origin. Through a domain or an API prefix, what is published begins with that prefix, and what is stored does not.

    :ivar bucket: the bucket.
    :ivar read_prefix: what the subjects begin with under which keys are stored.
    :ivar write_prefix: what the subjects begin with to which keys are published.
    :ivar origin_prefix: what the subjects begin with under which the origin stores them; the same as ``read_prefix`` but for a mirror that
        changes them.
    :ivar origin_stream: the stream that what is published ends up in: the bucket's own, or the origin of a mirror.
    :ivar origin_api: the API of that stream.
    """

    __slots__ = ("_codec", "bucket", "origin_api", "origin_prefix", "origin_stream", "read_prefix", "write_prefix")

    def __init__(self, api: ApiPrefix, config: StreamConfig, codec: KeyCodec | None = None) -> None:
        self.bucket = config.name.removeprefix(STREAM_PREFIX)
        self._codec = codec
        mirror = config.mirror
        if mirror is None:
            self.origin_stream, self.origin_api = config.name, api
            self.read_prefix = self.origin_prefix = key_prefix(self.bucket)
        else:
            self.origin_stream = mirror.name
            external = mirror.external.api_prefix if mirror.external is not None else ""
            self.origin_api = ApiPrefix(api_prefix=external) if external else api
            self.origin_prefix = key_prefix(mirror.name.removeprefix(STREAM_PREFIX))
            self.read_prefix = _mirrored_prefix(mirror, self.origin_prefix)
        outer = self.origin_api.prefix
        self.write_prefix = self.origin_prefix if outer == DEFAULT_PREFIX else f"{outer}.{self.origin_prefix}"

    def __repr__(self) -> str:
        return f"<KeySubjects of bucket {self.bucket!r}>"

    # --- from keys -------------------------------------------------------------------------------------------

    def encoded(self, key: str) -> str:
        """A key as it is stored.

        :raises InvalidKeyError: it breaks a rule of :func:`check_key`; with a codec, what that made of it does.
        """
        if self._codec is not None:
            if not isinstance(key, str):
                raise InvalidKeyError(f"key {shortened(key)} must be a str")
            key = self._codec.encode(key)
        if key.__class__ is not str or not _KEY.fullmatch(key):
            check_key(key)
        return key

    def read(self, key: str) -> str:
        """The subject under which a key is stored. Raises as :meth:`encoded`."""
        return self.read_prefix + self.encoded(key)

    def write(self, key: str) -> str:
        """The subject to which a key is published. Raises as :meth:`encoded`."""
        return self.write_prefix + self.encoded(key)

    def origin(self, key: str) -> str:
        """The subject under which the origin stores a key: what an expected last sequence is about. Raises as :meth:`encoded`."""
        return self.origin_prefix + self.encoded(key)

    def filter(self, pattern: str) -> str:
        """The subjects under which the keys are stored that match a pattern.

        :raises InvalidKeyError: the pattern breaks a rule of :func:`check_pattern`, or the codec cannot encode it.
        """
        if self._codec is not None:
            if not isinstance(pattern, str):
                check_pattern(pattern)
            pattern = encode_pattern(self._codec, pattern)
        check_pattern(pattern)
        return self.read_prefix + pattern

    def filters(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """:meth:`filter` of each pattern, once; of ``>`` when there are none."""
        if not patterns:
            return (self.read_prefix + ">",)
        return tuple(dict.fromkeys(map(self.filter, patterns)))

    # --- to keys ---------------------------------------------------------------------------------------------

    def key(self, subject: str) -> str:
        """The key that is stored under a subject.

        :raises InvalidKeyError: it is not one of this bucket.
        :raises KeyValueCodecError: the codec cannot decode it.
        """
        if not subject.startswith(self.read_prefix):
            raise InvalidKeyError(f"subject {shortened(subject)} is not that of a key of bucket {self.bucket!r}")
        key = subject[len(self.read_prefix) :]
        return key if self._codec is None else self._codec.decode(key)


def _mirrored_prefix(mirror: StreamSource, origin: str) -> str:
    """What the subjects begin with in a mirror: those of its origin, unless it puts another prefix in the place of that."""
    for transform in mirror.subject_transforms:
        if transform.dest.endswith(".>") and transform.src.startswith(origin) and "*" not in transform.dest:
            parts = transform.dest.split(".")
            if len(parts) >= 3 and parts[0] == "$KV":
                return key_prefix(parts[1])
    return origin
