"""One server: how to reach it, who we are there, and what happened to it so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from pynats_twisted.protocol.urls import TLS_SCHEMES, WEBSOCKET_SCHEMES, ServerURL, join_host_port, parse_url


@dataclass(slots=True, eq=False, repr=False)
class Server:
    """One server of the pool, with what happened to it so far. ``repr`` and :attr:`url` have no credentials.

    :ivar host: a name or an IP address, without brackets; ``""`` with the scheme ``unix``.
    :ivar scheme: ``nats``, ``tls``, ``ws``, ``wss`` or ``unix``.
    :ivar port: 0 with ``unix``.
    :ivar user: from the server's URL, or for a discovered server from the one that named it; it wins over the options. None: not given.
    :ivar password: as ``user``.
    :ivar token: as ``user``; never given together with it.
    :ivar path: with ``ws`` and ``wss`` the path and query to ask for; with ``unix`` the socket's path; else ``""``.
    :ivar discovered: it came by INFO, and goes by INFO.
    :ivar tls_name: the name that its certificate has to have. It never comes from what a server said of itself: a discovered IP address
        keeps the name of the server that named it.
    :ivar tls_required_once: it is never spoken to in the clear any more.
    :ivar attempts: attempts since it was last connected for long enough to count.
    :ivar did_connect: a handshake was completed at least once.
    :ivar last_error: why the last attempt failed.
    :ivar last_auth_error: the class of the last authentication error.
    """

    host: str
    port: int = 4222
    scheme: str = "nats"
    user: str | None = None
    password: str | None = None
    token: str | None = None
    path: str = ""
    discovered: bool = False
    tls_name: str = ""
    tls_required_once: bool = False
    attempts: int = field(default=0, init=False)
    did_connect: bool = field(default=False, init=False)
    last_error: BaseException | None = field(default=None, init=False)
    last_auth_error: type[BaseException] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not self.tls_name:
            # In DNS a final dot says that the name is complete; certificates do not have it.
            self.tls_name = self.host.removesuffix(".")

    @classmethod
    def from_url(cls, url: str | ServerURL, *, tls_name: str | None = None) -> Server:
        """A server from its URL.

        :param tls_name: the name for verification, if it is not the URL's host.
        :raises InvalidURLError: the URL breaks a rule.
        """
        parts = parse_url(url) if isinstance(url, str) else url
        server = cls(host=parts.host, port=parts.port, scheme=parts.scheme, path=parts.path, tls_name=tls_name or "")
        server.user, server.password, server.token = parts.user, parts.password, parts.token
        return server

    @property
    def tls(self) -> bool:
        """Whether its URL says TLS (``tls``, ``wss``)."""
        return self.scheme in TLS_SCHEMES

    @property
    def websocket(self) -> bool:
        """Whether it speaks WebSocket (``ws``, ``wss``)."""
        return self.scheme in WEBSOCKET_SCHEMES

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and path; no two servers of a pool have the same."""
        return self.host, self.port, self.path

    @property
    def host_port(self) -> str:
        """``host:port``, with brackets around an IPv6 address; the path of a UNIX socket."""
        return join_host_port(self.host, self.port) if self.host else self.path

    @property
    def url(self) -> str:
        """The URL without user, password, token and query."""
        return ServerURL(scheme=self.scheme, host=self.host, port=self.port, path=self.path).url

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"<Server {self.url}{' (discovered)' if self.discovered else ''}>"
