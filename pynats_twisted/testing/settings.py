"""The options of a nats-server that the testing kit runs, and the configuration file that they become."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pynats_twisted.errors import ConfigurationError
from pynats_twisted.testing import conf

if TYPE_CHECKING:
    from pynats_twisted.testing.accounts import Operator
    from pynats_twisted.testing.certificates import Certificate, CertificateAuthority, CertificateFiles

# The server keeps one file of this size and one archive, so that tracing for hours does not fill the disk.
LOG_FILE_SIZE = 4 * 1024 * 1024
LOG_FILES = 2

# nats-server accepts no shorter time.
MIN_LAME_DUCK_DURATION = 30.0


@dataclass(frozen=True, kw_only=True)
class ServerTLS:
    """How a server speaks TLS.

    :ivar names: host names and addresses in the certificate that is made for the server.
    :ivar first: the TLS handshake comes before INFO (``handshake_first``). ``"auto"``, or a time such as ``"300ms"``: INFO is
        sent to clients that do not start a handshake within 50 ms, or within that time.
    :ivar verify: clients must have a certificate of the authority (mutual TLS).
    :ivar verify_and_map: the same, and the name in the certificate says which of ``users`` the client is.
    :ivar optional: clients may also speak without TLS.
    :ivar timeout: seconds that a handshake may take; None for the server's default.
    :ivar authority: issues the certificates; None: one is made for this server.
    :ivar certificate: the server's certificate; None: the authority issues one for ``names``.
    """

    names: Sequence[str] = ("localhost", "127.0.0.1", "::1")
    first: bool | str = False
    verify: bool = False
    verify_and_map: bool = False
    optional: bool = False
    timeout: float | None = None
    authority: CertificateAuthority | None = None
    certificate: Certificate | None = None

    def block(self, ca_file: Path, files: CertificateFiles) -> dict[str, Any]:
        """The ``tls`` block of a configuration, with certificates that were written to files."""
        return {
            "cert_file": files.certificate,
            "key_file": files.key,
            "ca_file": ca_file if self.verify or self.verify_and_map else None,
            "verify": True if self.verify else None,
            "verify_and_map": True if self.verify_and_map else None,
            "handshake_first": self.first if self.first is not False else None,
            "timeout": self.timeout,
        }


@dataclass(frozen=True, kw_only=True)
class ClusterMember:
    """What one server knows of its cluster. ``routes`` is shared by all of them, and grows when a server is added."""

    name: str
    routes: list[str]


class ServerOptions(TypedDict, total=False):
    """The keywords of a server, for type checkers. :class:`ServerSettings` says what they mean, and has the defaults."""

    name: str | None
    host: str
    port: int | None
    program: str | os.PathLike[str] | None
    directory: str | os.PathLike[str] | None
    jetstream: bool | Mapping[str, Any]
    tls: bool | ServerTLS
    user: str | None
    password: str | None
    token: str | None
    users: Sequence[Mapping[str, Any]]
    operator: Operator | None
    monitoring: bool
    websocket: bool
    lame_duck_grace: float | None
    lame_duck_duration: float
    debug: bool
    trace: bool
    start_timeout: float
    stop_timeout: float


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Every option of a server of the testing kit. All have defaults: a server on a free port of the loopback address.

    :ivar config: more configuration, as the text of a configuration file or as a mapping of option names to values. What the
        other options say stands above it. With a mapping, blocks that both have (``authorization``, ``tls``, ...) are merged.
    :ivar name: ``server_name``.
    :ivar host: the address to listen on.
    :ivar port: the client port; None for a free one, which stays the same as long as the server object lives.
    :ivar program: the nats-server to run; None: see :func:`~pynats_twisted.testing.program.find_server_program`.
    :ivar directory: where its files are; None for a temporary directory, which is removed with the server object.
    :ivar jetstream: True for JetStream with a store in ``directory``, or the options of the ``jetstream`` block.
    :ivar tls: True for TLS with certificates that are made for it, or a :class:`ServerTLS`.
    :ivar user: the one user there is, with ``password``.
    :ivar password: the password of ``user``.
    :ivar token: the token that every client needs.
    :ivar users: several users, as entries of ``authorization { users }``: ``{"user": "a", "password": "b", "permissions":
        {"publish": ["x.>"], "subscribe": {"deny": ["y"]}}}`` or ``{"nkey": "U..."}``.
    :ivar operator: the operator, accounts and users of a server with JWTs, in memory.
    :ivar monitoring: serve the monitoring pages, which ``monitor()`` asks.
    :ivar websocket: listen for WebSocket clients too, with TLS when ``tls`` is there.
    :ivar lame_duck_grace: seconds from lame duck mode to the first client that is disconnected; None for the server's default
        of 10 s.
    :ivar lame_duck_duration: seconds in which it disconnects its clients, at most one second from one to the next. The server
        accepts no less than 30. Used when ``lame_duck_grace`` is given.
    :ivar debug: log debugging lines.
    :ivar trace: log every protocol line.
    :ivar start_timeout: seconds that a start may take.
    :ivar stop_timeout: seconds that an orderly stop may take before the server is killed.
    """

    config: str | Mapping[str, Any] | None = field(default=None, repr=False)
    name: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    program: str | os.PathLike[str] | None = None
    directory: str | os.PathLike[str] | None = None
    jetstream: bool | Mapping[str, Any] = False
    tls: bool | ServerTLS = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    users: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    operator: Operator | None = field(default=None, repr=False)
    monitoring: bool = False
    websocket: bool = False
    lame_duck_grace: float | None = None
    lame_duck_duration: float = MIN_LAME_DUCK_DURATION
    debug: bool = False
    trace: bool = False
    start_timeout: float = 10.0
    stop_timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigurationError(f"port: found {self.port!r}; allowed: 1 to 65535, or None for a free one")
        if (self.user is None) != (self.password is None):
            raise ConfigurationError("user and password go together; only one of them was given")
        ways = {"user": self.user, "token": self.token, "users": self.users, "operator": self.operator}
        given = [way for way, value in ways.items() if value]
        if len(given) > 1:
            raise ConfigurationError(f"a server has one way to authenticate; found {' and '.join(given)}")
        if self.lame_duck_duration < MIN_LAME_DUCK_DURATION:
            raise ConfigurationError(
                f"lame_duck_duration: found {self.lame_duck_duration!r}; the server allows {MIN_LAME_DUCK_DURATION} seconds or more"
            )

        if self.lame_duck_grace is not None and not 0 <= self.lame_duck_grace < self.lame_duck_duration:
            raise ConfigurationError(
                f"lame_duck_grace: found {self.lame_duck_grace!r}; allowed: 0 to less than lame_duck_duration ({self.lame_duck_duration})"
            )

    @classmethod
    def from_keywords(cls, config: str | Mapping[str, Any] | None, options: Mapping[str, Any]) -> ServerSettings:
        """
        :raises ConfigurationError: an option is unknown, or breaks a rule.
        """
        return cls(config=config, **_known(options))

    def changed(self, changes: Mapping[str, Any]) -> ServerSettings:
        """These settings with some options replaced."""
        return dataclasses.replace(self, **_known(changes))

    @property
    def server_tls(self) -> ServerTLS | None:
        """The TLS options, or None: no TLS."""
        if isinstance(self.tls, ServerTLS):
            return self.tls
        return ServerTLS() if self.tls else None

    def text(self, *, directory: Path, tls: Mapping[str, Any] | None, websocket: int | None, cluster: Mapping[str, Any] | None) -> str:
        """The configuration file.

        :param directory: where the server's files are.
        :param tls: the ``tls`` block, with the certificates' files.
        :param websocket: the port for WebSocket clients.
        :param cluster: the ``cluster`` block.
        """
        generated: dict[str, Any] = {
            "server_name": self.name,
            "authorization": self._authorization(),
            "jetstream": self._jetstream(directory),
            "tls": tls,
            "allow_non_tls": True if self.server_tls is not None and self.server_tls.optional else None,
            "cluster": cluster,
            "logfile_size_limit": LOG_FILE_SIZE,
            "logfile_max_num": LOG_FILES,
        }
        if websocket is not None:
            secure = {"cert_file": tls["cert_file"], "key_file": tls["key_file"]} if tls else None
            generated["websocket"] = {"host": self.host, "port": websocket, "tls": secure, "no_tls": None if tls else True}
        if self.lame_duck_grace is not None:
            generated["lame_duck_duration"] = f"{round(self.lame_duck_duration * 1000)}ms"
            # The server takes zero for its default.
            generated["lame_duck_grace_period"] = f"{max(1, round(self.lame_duck_grace * 1000))}ms"
        if self.operator is not None:
            generated.update(self.operator.server_config())
        generated = {name: value for name, value in generated.items() if value is not None}
        if isinstance(self.config, str):
            # The last of two options with one name is the one that counts.
            return f"{self.config}\n{conf.render(generated)}"
        return conf.render(conf.merged(self.config or {}, generated))

    def _authorization(self) -> dict[str, Any] | None:
        if self.users:
            return {"users": list(self.users)}
        if self.user is not None:
            return {"user": self.user, "password": self.password}
        return {"token": self.token} if self.token is not None else None

    def _jetstream(self, directory: Path) -> dict[str, Any] | None:
        if self.jetstream is False:
            return None
        return {"store_dir": directory / "jetstream", **(self.jetstream if isinstance(self.jetstream, Mapping) else {})}


def _known(options: Mapping[str, Any]) -> Mapping[str, Any]:
    names = [each.name for each in dataclasses.fields(ServerSettings)]
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, n=1)
            raise ConfigurationError(
                f"unknown server option {option!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + " (options of nats-server itself go into config)"
            )
    return options
