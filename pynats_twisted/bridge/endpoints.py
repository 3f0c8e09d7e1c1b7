"""Checks of server endpoint strings that open nothing: whether Twisted can read them, and whether two are the same address."""

from __future__ import annotations

import os
from typing import NamedTuple

from twisted.internet.endpoints import serverFromString

ENDPOINT_RULE = 'a Twisted server endpoint, such as "tcp:8080", "tcp:8080:interface=127.0.0.1", "unix:/run/x.sock"'

_BACKLOG = 1024
_WITH_BACKLOG = ("tcp", "tcp6", "ssl", "unix")
_WILDCARD_HOSTS = ("", "0.0.0.0", "::", "0::0")
# For each kind, where port and interface stand when they are written without their names.
_PORT_PLACES = {"tcp": (0, 1), "tcp6": (0, 2), "ssl": (0, 4), "tls": (1, 3), "udp": (0, 1)}


class ListenAddress(NamedTuple):
    """Where an endpoint listens.

    :ivar family: ``tcp``, ``udp`` or ``unix``.
    :ivar host: the interface; an empty text for all of them, and for ``unix``.
    :ivar port: the port, or the path of a ``unix`` endpoint.
    """

    family: str
    host: str
    port: int | str

    def overlaps(self, other: ListenAddress) -> bool:
        """Whether both cannot be listened on at the same time. Port 0 is a different one each time."""
        if (self.family, self.port) != (other.family, other.port) or self.port == 0:
            return False
        return self.host == other.host or not self.host or not other.host


def endpoint_problem(description: str, reactor: object = None) -> str | None:
    """Why *description* is no endpoint that could be listened on, in words; None when it is one.

    Nothing is bound. Files that the endpoint names (certificates, keys) are read, so that a missing one is found here.
    Sockets that systemd hands over exist in the service only, so those are not looked for.
    """
    if not isinstance(description, str) or not description.strip():
        return "an empty text"
    if description.partition(":")[0] == "systemd":
        return None
    try:
        listen_address(description)
        serverFromString(reactor, description)
        _check_certificates(description)
    except Exception as error:  # noqa: BLE001
        # A parser is a plugin of anybody: whatever it raises says that this description is not one of its own.
        return f"{type(error).__name__}: {str(error) or 'not readable as an endpoint'}"
    return None


def with_backlog(description: str) -> str:
    """*description* with room for a burst of new connections. Twisted's own default of 50 makes the others come a second late."""
    plain, named = _split(description)
    return f"{description}:backlog={_BACKLOG}" if plain[0].lower() in _WITH_BACKLOG and "backlog" not in named else description


def listen_address(description: str) -> ListenAddress | None:
    """The address that an endpoint string listens on; None when only its own parser can know.

    :raises ValueError: the port is not a number from 0 to 65535.
    """
    plain, named = _split(description)
    kind = plain[0].lower()
    while kind == "haproxy" and len(plain) > 1:
        plain = plain[1:]
        kind = plain[0].lower()
    arguments = plain[1:]
    if kind == "unix":
        path = named.get("address", arguments[0] if arguments else "")
        return ListenAddress("unix", "", path)
    if kind not in _PORT_PLACES:
        return None
    port_place, host_place = _PORT_PLACES[kind]
    text = named.get("port", arguments[port_place] if len(arguments) > port_place else "443" if kind == "tls" else "")
    host = named.get("interface", arguments[host_place] if len(arguments) > host_place else "")
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(f"the port {text!r} is not a number from 0 to 65535")
    return ListenAddress("udp" if kind == "udp" else "tcp", "" if host in _WILDCARD_HOSTS else host, int(text))


def _check_certificates(description: str) -> None:
    """Twisted looks into the directory of a ``tls:`` endpoint only when a client connects."""
    plain, named = _split(description)
    while plain[0].lower() == "haproxy" and len(plain) > 1:
        plain = plain[1:]
    if plain[0].lower() != "tls":
        return
    directory = named.get("path", plain[1] if len(plain) > 1 else "")
    if not any(name.endswith(".pem") for name in os.listdir(directory)):
        raise ValueError(f"no *.pem file is in {directory}")


def _split(description: str) -> tuple[list[str], dict[str, str]]:
    """The arguments of an endpoint string, without and with names. A backslash takes the next character as it is."""
    arguments: list[tuple[str | None, str]] = []
    name: str | None = None
    current = ""
    characters = iter(description)
    for char in characters:
        if char == "\\":
            current += next(characters, "")
        elif char == ":":
            arguments.append((name, current))
            name, current = None, ""
        elif char == "=" and name is None:
            name, current = current, ""
        else:
            current += char
    arguments.append((name, current))
    plain = [text for name, text in arguments if name is None]
    return plain or [""], {name: text for name, text in arguments if name is not None}
