"""What a server's URL may look like, and the ``host:port`` entries that servers gossip.

A user may write ``nats://host:port``, ``tls://``, ``ws://``, ``wss://``, ``unix:///path``, or only ``host``, ``host:`` and
``host:port``; several of them with commas in between. ``user:password@`` or ``token@`` may stand before the host, with percent
encoding. No error of this module shows what stands, or could stand, before an ``@``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

from pynats_twisted.errors import ConfigurationError, InvalidURLError, MixedSchemesError

DEFAULT_PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443, "unix": 0}
"""The schemes that a URL may have, and the port of a URL that names none."""

TLS_SCHEMES = frozenset({"tls", "wss"})
WEBSOCKET_SCHEMES = frozenset({"ws", "wss"})

# As long as the path of an HTTP request may be with most servers; a token or JWT in a URL has room.
_MAX_URL = 8192
_SHOWN = 120

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_FOUR_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_IPV4_PART = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_IPV4_PART}(?:\.{_IPV4_PART}){{3}}")
_ENTRY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,254})):([0-9]{1,5})")

_PORT_RULE = "the port must be a number from 1 to 65535"
_HOST_RULE = "the host must be a name, an IPv4 address, or an IPv6 address in brackets"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ServerURL:
    """A server's URL in its parts. ``repr`` and :attr:`url` have no credentials.

    :ivar scheme: ``nats``, ``tls``, ``ws``, ``wss`` or ``unix``.
    :ivar host: a name in lower case, or an IP address without brackets; ``""`` with ``unix``.
    :ivar port: the port, also where the URL leaves it out; 0 with ``unix``.
    :ivar user: the user's name, decoded, or None.
    :ivar password: the password, decoded, or None; never given without a user.
    :ivar token: the token, decoded, or None: what stands alone before the ``@``.
    :ivar path: with ``ws`` and ``wss`` the path and query to ask for, ``/`` by default; with ``unix`` the socket's path; else ``""``.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None
    token: str | None = None
    path: str = ""

    @property
    def address(self) -> tuple[str, int, str]:
        """What tells two servers apart: host, port and path. The scheme does not: one port speaks one protocol."""
        return self.host, self.port, self.path

    @property
    def host_port(self) -> str:
        """``host:port``, with brackets around an IPv6 address; the path of a UNIX socket."""
        return join_host_port(self.host, self.port) if self.host else self.path

    @property
    def url(self) -> str:
        """The whole URL without user, password, token and query."""
        if self.scheme == "unix":
            return f"unix://{quote(self.path)}"
        return f"{self.scheme}://{self.host_port}{self.path.partition('?')[0].rstrip('/')}"

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip_address(host: str) -> bool:
    """Whether a host, as it stands in a :class:`ServerURL` or a :class:`Server`, is an IP address and not a name."""
    return ":" in host or _IPV4.fullmatch(host) is not None


def parse_url(text: str) -> ServerURL:
    """Read one server URL.

    :raises InvalidURLError: it breaks a rule; the text names the rule, and shows neither password nor token.
    """
    if not isinstance(text, str):
        raise InvalidURLError(f"a server URL must be a str, not {type(text).__name__}")
    return _URLReader(text, _shown(text)).read()


def parse_servers(servers: str | Iterable[str]) -> tuple[ServerURL, ...]:
    """Read the servers that a user gave: one URL, several with commas in between, or a sequence of such texts.

    Spaces around a comma and an empty place between two commas are ignored, and so is a server that is given twice. A comma
    in user info must be written ``%2C``.

    :raises InvalidURLError: a URL breaks a rule, or one address is given twice with different schemes or credentials.
    :raises MixedSchemesError: some are WebSocket servers and some are not.
    :raises ConfigurationError: there is no server at all.
    """
    found: dict[tuple[str, int, str], ServerURL] = {}
    for text in [servers] if isinstance(servers, str) else _texts(servers):
        for number, piece in _pieces(text):
            # With a comma in a password, a piece is half a password: no piece of a list with an "@" is shown.
            hidden = "@" in text and "," in text
            url = _URLReader(piece, f"number {number} of the list" if hidden else _shown(piece)).read()
            known = found.setdefault(url.address, url)
            if known != url:
                raise InvalidURLError(f"server {url.host_port} is given twice, with different schemes or credentials")
    if not found:
        raise ConfigurationError("servers: at least one server URL must be given")
    check_schemes(url.scheme for url in found.values())
    return tuple(found.values())


def check_schemes(schemes: Iterable[str]) -> None:
    """Check that servers with these schemes can be in one pool.

    :raises MixedSchemesError: some are WebSocket servers and some are not.
    """
    given = sorted(set(schemes))
    if len({scheme in WEBSOCKET_SCHEMES for scheme in given}) > 1:
        raise MixedSchemesError(
            f"servers: the schemes {', '.join(given)} are mixed; a pool has either WebSocket servers (ws, wss) or others (nats, tls, unix)"
        )


def parse_gossip(entry: str) -> tuple[str, int] | None:
    """Read an entry of INFO's ``connect_urls``: host and port, or None if it is anything but ``host:port``.

    It comes from the network, so nothing else is accepted: no scheme, no user info, no path, no address that stands for "any".
    """
    match = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
    if match is None:
        return None
    address, name, digits = match.groups()
    host = _ipv6(address) if address is not None else _host_name(name)
    port = _port(digits)
    if host is None or port is None or host in ("::", "0.0.0.0"):
        return None
    return host, port


def _texts(servers: Iterable[str]) -> Iterable[str]:
    if isinstance(servers, (bytes, bytearray)) or not isinstance(servers, Iterable):
        raise ConfigurationError(f"servers: a str or a sequence of str must be given, not {type(servers).__name__}")
    for text in servers:
        if not isinstance(text, str):
            raise ConfigurationError(f"servers: each server must be a str, not {type(text).__name__}")
        if not text.strip(" ,"):
            raise InvalidURLError("servers: one of the server URLs is empty")
        yield text


def _pieces(text: str) -> Iterable[tuple[int, str]]:
    for number, piece in enumerate(text.split(","), 1):
        if piece.strip(" "):
            yield number, piece.strip(" ")


def _shown(text: str) -> str:
    """What an error may show of a URL: nothing before its last ``@``, no query, nothing after a colon that is not a port."""
    before, at, rest = text.rpartition("@")
    scheme = ""
    if not at and "://" in rest:
        scheme, _, rest = rest.partition("://")
        scheme += "://"
    elif at:
        match = _SCHEME.match(before)
        if match and match.group().lower() in DEFAULT_PORTS and before.startswith("://", match.end()):
            scheme = match.group() + "://"
        scheme += "…@"
    rest = re.sub(r"\?.*", "?…", rest, flags=re.DOTALL)
    if not rest.startswith("["):
        # user:password without @host reads as host:port.
        rest = re.sub(r":(?![0-9]{0,5}(?:/|$)).*", ":…", rest, flags=re.DOTALL)
    shown = scheme + rest
    return repr(shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…")


class _URLReader:
    """Reads one URL. It never raises from inside an ``except``: the context of an error would show what the error does not."""

    def __init__(self, text: str, shown: str) -> None:
        self._text = text.strip(" ")
        self._name = shown

    def _fail(self, rule: str) -> NoReturn:
        raise InvalidURLError(f"server URL {self._name}: {rule}")

    def read(self) -> ServerURL:
        text = self._text
        if not text:
            self._fail("it is empty")
        if len(text) > _MAX_URL:
            self._fail(f"it is longer than {_MAX_URL} characters")
        if " " in text or not text.isprintable():
            self._fail("white space and control characters must be percent-encoded")
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "nats", text
        scheme = scheme.lower()
        if scheme not in DEFAULT_PORTS:
            self._fail(f"the scheme must be one of {', '.join(DEFAULT_PORTS)}")
        end = re.search(r"[/?#]|$", rest)
        assert end is not None
        authority, tail = rest[: end.start()], rest[end.start() :]
        if "@" in tail:
            self._fail("'/', '?' and '#' in user info, and '@' in a path, must be percent-encoded")
        if "#" in tail:
            self._fail("a fragment ('#') means nothing here")
        info, at, location = authority.rpartition("@")
        user, password, token = self._credentials(info) if at else (None, None, None)
        host, port = self._location(scheme, location)
        path = self._path(scheme, tail)
        return ServerURL(scheme=scheme, host=host, port=port, user=user, password=password, token=token, path=path)

    def _credentials(self, info: str) -> tuple[str | None, str | None, str | None]:
        name, colon, secret = info.partition(":")
        if not name:
            self._fail("the user or token before '@' is empty")
        if not colon:
            return None, None, self._decoded(name, "the token")
        return self._decoded(name, "the user"), self._decoded(secret, "the password"), None

    def _decoded(self, text: str, what: str) -> str:
        if _BAD_ESCAPE.search(text):
            self._fail(f"'%' in {what} must be followed by two hexadecimal digits ('%' itself is %25)")
        value = _utf8(unquote_to_bytes(text))
        if value is None:
            self._fail(f"{what} is not UTF-8 when its percent encoding is undone")
        return value

    def _location(self, scheme: str, location: str) -> tuple[str, int]:
        if scheme == "unix":
            if location:
                self._fail("a UNIX socket has a path and no host: unix:///path")
            return "", 0
        if location.startswith("["):
            text, bracket, rest = location[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                self._fail(_HOST_RULE)
            host, digits = _ipv6(text.replace("%25", "%", 1)), rest[1:]
        else:
            text, _, digits = location.partition(":")
            if ":" in digits:
                self._fail("more than one colon: an IPv6 address must be in brackets, as [::1]:4222")
            if not text:
                self._fail("the host is empty")
            host = _host_name(text)
        if host is None:
            self._fail(_HOST_RULE)
        port = _port(digits) if digits else DEFAULT_PORTS[scheme]
        if port is None:
            self._fail(_PORT_RULE)
        return host, port

    def _path(self, scheme: str, tail: str) -> str:
        if scheme == "unix":
            if "?" in tail:
                self._fail("a query means nothing here; '?' in the path of a socket must be percent-encoded")
            path = self._decoded(tail, "the path")
            if not path.startswith("/") or path == "/" or "\0" in path:
                self._fail("a UNIX socket needs an absolute path: unix:///path")
            return path
        if scheme in WEBSOCKET_SCHEMES:
            if not tail.isascii():
                self._fail("characters of the path that are not ASCII must be percent-encoded")
            return tail if tail.startswith("/") else "/" + tail
        if tail not in ("", "/"):
            self._fail("only WebSocket servers (ws, wss) have a path")
        return ""


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _port(digits: str) -> int | None:
    if not digits.isascii() or not digits.isdigit() or len(digits) > 5:
        return None
    port = int(digits)
    return port if 1 <= port <= 65535 else None


def _ipv6(text: str) -> str | None:
    try:
        return str(IPv6Address(text))
    except ValueError:
        return None


def _host_name(text: str) -> str | None:
    """A host name or IPv4 address in the form to compare by, or None if it is neither."""
    if not text.isascii():
        # An internationalised name; the resolver encodes it, and knows its finer rules.
        labels = text.removesuffix(".").split(".")
        return text.lower() if all(label and label.replace("-", "a").isalnum() for label in labels) else None
    if _FOUR_NUMBERS.fullmatch(text):
        return text if _IPV4.fullmatch(text) else None
    return text.lower() if len(text) <= 254 and _NAME.fullmatch(text) else None
