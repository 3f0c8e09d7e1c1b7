"""What a server says of itself: the INFO line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ..errors import InvalidInfoError


@dataclass(frozen=True)
class ServerInfo:
    """The content of an INFO line. A key that the server left out has its default here; unknown keys are dropped.

    :ivar max_payload: bytes of headers and payload together that the server accepts in one message.
    :ivar nonce: what to sign for NKey and JWT authentication, or ``""``.
    :ivar connect_urls: other servers of the cluster, as ``host:port``.
    :ivar ldm: the server is in lame duck mode: it will close its connections soon.
    """

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    proto: int = 0
    git_commit: str = ""
    go: str = ""
    host: str = ""
    port: int = 0
    headers: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_verify: bool = False
    tls_available: bool = False
    max_payload: int = 1_048_576
    jetstream: bool = False
    ip: str = ""
    client_id: int = 0
    client_ip: str = ""
    nonce: str = ""
    cluster: str = ""
    cluster_dynamic: bool = False
    domain: str = ""
    connect_urls: tuple[str, ...] = ()
    ws_connect_urls: tuple[str, ...] = ()
    ldm: bool = False
    compression: str = ""
    connect_info: bool = False
    remote_account: str = ""
    acc_is_sys: bool = False
    api_lvl: int = 0
    xkey: str = ""


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("not a list of strings")
    return tuple(value)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {"str": _string, "int": _integer, "bool": _boolean, "tuple[str, ...]": _strings}
_FIELDS: dict[str, Callable[[Any], Any]] = {field.name: _CONVERTERS[str(field.type)] for field in fields(ServerInfo)}


def parse_info(text: bytes) -> ServerInfo:
    """Read the JSON of an INFO line.

    :raises InvalidInfoError: it is not a JSON object, or a known key has a value of the wrong type.
    """
    try:
        raw = json.loads(text)
    except RecursionError:
        raise InvalidInfoError("INFO is nested too deep") from None
    except ValueError as error:
        raise InvalidInfoError(f"INFO is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidInfoError(f"INFO is a JSON {type(raw).__name__}, not an object")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        convert = _FIELDS.get(name)
        # Servers write null for an empty list.
        if convert is None or value is None:
            continue
        try:
            values[name] = convert(value)
        except TypeError as error:
            raise InvalidInfoError(f"INFO has {name}={_shortened(value)}, which is {error}") from None
    return ServerInfo(**values)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 64 else text[:64] + "…"
