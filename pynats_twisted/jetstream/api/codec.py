"""From and to the JSON bytes of requests and answers."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from ...errors import JetStreamConfigError, JetStreamDecodeError
from .api_errors import api_error
from .fields import ApiObject, MismatchError, from_wire, to_wire

MAX_ANSWER = 64 * 1024 * 1024
"""Longer answers are refused unread."""

KIND_PREFIX = "io.nats.jetstream.api.v1."

_T = TypeVar("_T", bound=ApiObject)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_parse = json.JSONDecoder(parse_constant=_no_constant).decode
_format = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(request: ApiObject) -> bytes:
    """The JSON of a request or a configuration. What is at its default, only readable or unknown is left out: servers are strict.

    :raises JetStreamConfigError: a value breaks a rule; the error names the field, its value and the rule.
    """
    try:
        return _format(to_wire(request)).encode()
    except UnicodeEncodeError:
        raise JetStreamConfigError(type(request).__name__, request, "must not have text that UTF-8 cannot express") from None


def parse_object(data: bytes | bytearray | memoryview, limit: int = MAX_ANSWER) -> dict[str, Any]:
    """The JSON object in an answer, as it is.

    :param limit: bytes that it may have.
    :raises JetStreamDecodeError: it is longer than the limit or no JSON object.
    """
    if len(data) > limit:
        raise JetStreamDecodeError(f"an answer has {len(data)} bytes, the limit is {limit}")
    try:
        raw = _parse(str(data, "utf-8"))
    except RecursionError:
        raise JetStreamDecodeError("an answer is nested too deep") from None
    except ValueError as error:
        raise JetStreamDecodeError(f"an answer is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise JetStreamDecodeError(f"an answer is a JSON {type(raw).__name__}, not an object")
    return raw


def decode(kind: type[_T], data: bytes | bytearray | memoryview, limit: int = MAX_ANSWER) -> _T:
    """Read an answer.

    :param kind: the class that the answer to this request has.
    :param limit: bytes that it may have.
    :raises JetStreamApiError: the answer is an error; its class follows from the ``err_code``.
    :raises JetStreamDecodeError: it is longer than the limit, no JSON object, an answer of another kind, or has a known field of the
        wrong type.
    """
    raw = parse_object(data, limit)
    error = raw.get("error")
    if error is not None:
        raise api_error(error)
    if kind.kinds:
        _check_kind(kind, raw.pop("type", None))
    return load(kind, raw)


def _check_kind(kind: type[ApiObject], found: object) -> None:
    if not isinstance(found, str) or found.removeprefix(KIND_PREFIX) not in kind.kinds:
        wanted = " or ".join(sorted(kind.kinds))
        raise JetStreamDecodeError(f"an answer is of type {str(found)[:80]!r}, not of {wanted}")


def load(kind: type[_T], raw: Any) -> _T:
    """Read an object that :func:`parse_object` gave, or a part of one.

    :raises JetStreamDecodeError: it is not an object, or has a known field of the wrong type; the text names the field.
    """
    try:
        return from_wire(kind, raw)
    except MismatchError as error:
        path = ".".join(reversed(error.path))
        raise JetStreamDecodeError(f"{kind.__name__}: {path + ' ' if path else ''}{error}") from None
