"""Who may use the admin endpoint, and for what."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pynats_twisted.bridge.admin.problems import MISDIRECTED, READ_ONLY
from pynats_twisted.bridge.auth import Authenticator
from pynats_twisted.bridge.endpoints import listen_address
from pynats_twisted.bridge.problem import FORBIDDEN, UNAUTHORIZED, Problem, Response
from pynats_twisted.errors import ConfigurationError, CredentialsError

if TYPE_CHECKING:
    from pynats_twisted.bridge.config import AdminSection
    from pynats_twisted.bridge.config_types import Secret
    from pynats_twisted.bridge.http_message import HTTPRequest

_LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})


class Guard:
    """Judges requests to the admin endpoint.

    What only reads is open to whoever reaches the endpoint; the contents of messages, and whatever changes something, take the token
    (``Authorization: Bearer …``). A browser never sends that by itself, so that no other page can use it.

    An endpoint on loopback answers only when it is asked for by an address, as ``localhost``, or by a name of *hosts*: a page of a
    foreign site whose name leads to 127.0.0.1 all of a sudden gets nothing.

    :param section: ``[admin]``.
    """

    def __init__(self, section: AdminSection) -> None:
        self._token: Secret | None = section.token
        self._hosts = frozenset(host.lower() for host in section.hosts)
        self._is_local = _is_loopback(section.listen)

    def refuse(self, request: HTTPRequest, *, changes: bool) -> Response | None:
        """The refusal of a request, or None.

        :param changes: whether the request would change something.
        """
        if self._is_local and not self._is_known(request.headers.get(b"host", ())):
            return request.problem(MISDIRECTED)
        if not changes:
            # A token that is sent has to be right, even where none is needed: it was meant to show more.
            sent = request.headers.get(b"authorization")
            return self._response(request, self._check(sent)) if sent else None
        return self._response(request, self._check(request.headers.get(b"authorization", ())))

    def is_trusted(self, request: HTTPRequest) -> bool:
        """Whether a request brought the token, and may see the contents of messages."""
        sent = request.headers.get(b"authorization")
        return bool(sent) and self._check(sent) is None

    def _check(self, authorization: Iterable[bytes] | None) -> Problem | None:
        if self._token is None:
            return READ_ONLY
        try:
            # Read anew, so that a token in a file can be replaced.
            self._token.read()
            authenticator = Authenticator(bearer=self._token.values, realm="nats-bridge admin")
        except (CredentialsError, ConfigurationError):
            return READ_ONLY
        return authenticator.check(list(authorization or ()))

    @staticmethod
    def _response(request: HTTPRequest, problem: Problem | None) -> Response | None:
        if problem is UNAUTHORIZED:
            return request.problem(UNAUTHORIZED, headers=[(b"WWW-Authenticate", b'Bearer realm="nats-bridge admin"')])
        if problem is FORBIDDEN:
            return request.problem(FORBIDDEN, detail="The token is not the one of [admin].")
        return request.problem(problem) if problem is not None else None

    def _is_known(self, hosts: Iterable[bytes]) -> bool:
        values = list(hosts)
        if not values:
            return True  # HTTP/1.0, which no browser speaks
        name = _host_name(values[0].decode("latin-1"))
        if name in _LOCAL_NAMES or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_name(host: str) -> str:
    """``Host`` without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def _is_loopback(endpoint: str) -> bool:
    address = listen_address(endpoint)
    if address is None or address.family != "tcp":
        return False
    if address.host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
