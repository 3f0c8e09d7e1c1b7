"""The names of object stores and objects, and the streams and subjects that are made of them (ADR-20).

The subjects are always under ``$O``, also for a context with a domain or an API prefix: servers let them pass between domains as they are,
and map no prefix of their API to them. Two domains that are connected must not have stores of the same name. An account that imports the
API of another one has to import ``$O.<bucket>.>`` as well.
"""

from __future__ import annotations

import base64
import binascii
import re

from ..errors import InvalidArgumentError, InvalidNameError

ALL_STORES = "$O.*.C.>"
"""Matches a subject of every object store."""

MAX_NAME = 2048
"""Bytes that the name of an object may have in UTF-8: it becomes a part of subjects, whose length servers limit."""

_STREAM = "OBJ_"
# The stream's name is at most 255 bytes long.
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,251}")
_NUID = re.compile(r"[!-)+\-/-=?-~]{1,255}")


def bucket_problem(bucket: object) -> str:
    """What is wrong with the name of an object store, in words, or an empty text."""
    if isinstance(bucket, str) and _BUCKET.fullmatch(bucket):
        return ""
    return "must be 1 to 251 characters, each a letter or digit of ASCII, '-' or '_'"


def stream_name(bucket: str) -> str:
    """The name of the stream that an object store is.

    :raises InvalidNameError: the store's name breaks a rule.
    """
    problem = bucket_problem(bucket)
    if problem:
        raise InvalidNameError(f"object store name {_shortened(bucket)} {problem}")
    return f"{_STREAM}{bucket}"


def bucket_of_stream(stream: str) -> str | None:
    """The name of the object store that a stream is by its name, or None."""
    bucket = stream.removeprefix(_STREAM)
    return bucket if bucket != stream and not bucket_problem(bucket) else None


def all_chunks(bucket: str) -> str:
    """Matches the subjects of all chunks of a store."""
    return f"$O.{bucket}.C.>"


def all_metas(bucket: str) -> str:
    """Matches the subjects under which a store keeps what there is to know of its objects."""
    return f"$O.{bucket}.M.>"


def chunk_subject(bucket: str, nuid: str) -> str:
    """The subject of the chunks of an object.

    :param nuid: the object's :attr:`~pynats_twisted.objectstore.info.ObjectInfo.nuid`.
    :raises InvalidArgumentError: it cannot be a token of a subject, or would match others. Chunks are removed by their subject.
    """
    problem = nuid_problem(nuid)
    if problem:
        raise InvalidArgumentError(f"nuid {_shortened(nuid)} {problem}")
    return f"$O.{bucket}.C.{nuid}"


def meta_subject(bucket: str, name: str) -> str:
    """The subject under which a store keeps what there is to know of an object.

    :raises InvalidArgumentError: the name breaks a rule.
    """
    check_object_name(name)
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode('ascii')}"


def name_of_meta(bucket: str, subject: str) -> str | None:
    """The name of the object of a subject that :func:`meta_subject` made, or None for any other subject."""
    prefix = f"$O.{bucket}.M."
    encoded = subject.removeprefix(prefix)
    if encoded == subject:
        return None
    try:
        name = base64.b64decode(encoded, altchars=b"-_", validate=True).decode()
        return name if meta_subject(bucket, name) == subject else None
    except (binascii.Error, ValueError):
        return None


def check_object_name(name: str) -> None:
    """Check the name of an object: any text that is not empty, with at most :data:`MAX_NAME` bytes in UTF-8.

    :raises InvalidArgumentError: it breaks a rule.
    """
    problem = ""
    if not isinstance(name, str):
        problem = "must be a str"
    elif not name:
        problem = "must not be empty"
    else:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            problem = "must be text that UTF-8 can express"
        else:
            if size > MAX_NAME:
                problem = f"must be at most {MAX_NAME} bytes long in UTF-8, it has {size}"
    if problem:
        raise InvalidArgumentError(f"object name {_shortened(name)} {problem}")


def nuid_problem(nuid: object) -> str:
    """What is wrong with the id of an object's chunks, in words, or an empty text."""
    if isinstance(nuid, str) and _NUID.fullmatch(nuid):
        return ""
    return "must be 1 to 255 visible characters of ASCII, none of '.', '*' and '>'"


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "…"
