"""The configuration of the bridge, typed: its sections, and :func:`load_config` which reads them.

Every section is a ``msgspec.Struct``. A route type adds a subclass of :class:`RouteConfig` with keys of its own, and may override
the hooks of that class to have rules checked that a type cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct, field

from pynats_twisted.bridge.config_errors import ConfigError, FieldProblem, Problem, describe_found
from pynats_twisted.bridge.config_types import (
    DURATION_RULE,
    KIB,
    MIB,
    ByteSize,
    FilePath,
    PositiveByteSize,
    PositiveDuration,
    Secret,
    SecretFile,
    parse_duration,
)

DEFAULT_SERVER = "nats://127.0.0.1:4222"
"""Where a ``[nats.NAME]`` without ``servers`` connects to."""

if TYPE_CHECKING:
    from pynats_twisted.bridge.interfaces import IRouteFactory

MAX_FILE_BYTES = 4 * MIB
"""Longest configuration file, in bytes."""

NAME_RULE = "1 to 64 letters, digits, - and _"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LEAF_URL = re.compile(r"(?:nats|nats-leaf|tls|ws|wss)://[^\s,\"\\]{1,1024}", re.ASCII)

HIGH_WATER = 2 * MIB
"""Bytes that may wait to be written before publishing waits too."""

Positive = Annotated[int, Meta(ge=1)]
"""A whole number, 1 or more."""


class Section(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The base of all sections. Keys that a section does not have are errors."""

    def find_problems(self) -> Iterable[FieldProblem]:
        """Everything that breaks a rule between keys, or a rule that a type cannot express."""
        return ()


class HTTPBinding(NamedTuple):
    """A path of a shared HTTP listener that a route takes.

    :ivar listen: the listener's name.
    :ivar path: the path template, for example ``/orders/{id}``: a part ``{name}`` takes one whole segment.
    :ivar methods: the methods, in upper case.
    """

    listen: str
    path: str
    methods: tuple[str, ...]


class Flow(NamedTuple):
    """What a route moves inside NATS, so that ``--check`` finds routes that feed each other.

    :ivar nats: the name of the ``[nats.NAME]``.
    :ivar reads: patterns of subjects that it reads there.
    :ivar writes: patterns of subjects that it publishes to, with ``*`` for what is put in.
    :ivar read_from: the name of the ``[nats.NAME]`` that it reads from, where that is another one.
    """

    nats: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    read_from: str = ""


class RouteConfig(Section, kw_only=True, frozen=True):
    """The keys that every ``[routes.NAME]`` has. Route types subclass it::

        class EchoConfig(RouteConfig, kw_only=True, frozen=True):
            subject: str
            timeout: PositiveDuration = 2.0

    :ivar type: the route type.
    :ivar nats: the name of the ``[nats.NAME]`` that the route uses.
    :ivar debug: log one line for each message and hop. It may contain subjects and sizes, never payloads or secrets.
    """

    type: str
    nats: str = "default"
    debug: bool = False

    def find_warnings(self) -> Iterable[FieldProblem]:
        """What works, but probably not as meant; ``--check`` prints it."""
        return ()

    def nats_names(self) -> Iterable[tuple[str, str]]:
        """The ``[nats.NAME]`` sections that the route uses, as ``(key, name)``; unknown names are refused."""
        return (("nats", self.nats),)

    def http_bindings(self) -> Iterable[HTTPBinding]:
        """The paths of ``[listen.NAME]`` that the route takes; unknown listeners and overlapping paths are refused."""
        return ()

    def flows(self) -> Iterable[Flow]:
        """What the route reads from NATS and publishes to it. Routes that feed each other in a circle are refused."""
        return ()

    def server_endpoints(self) -> Iterable[tuple[str, str]]:
        """The endpoints that the route itself listens on, as ``(key, endpoint)``; taking one twice is refused."""
        return ()


class BridgeSection(Section, kw_only=True, frozen=True):
    """``[bridge]``: the bridge as a whole.

    :ivar name: the bridge's name: its hop id against loops, and the start of its NATS connections' names.
    :ivar drain_timeout: seconds after which a stop is hard.
    :ivar log: the format of the log, ``text`` or ``json``; not given: text on a terminal, json elsewhere.
    :ivar max_hops: how many bridges a message may pass; one that passed more is dropped and counted.
    :ivar allow_loops: do not refuse routes that feed each other in a circle.
    """

    name: str
    drain_timeout: PositiveDuration = 20.0
    log: Literal["text", "json"] | None = None
    max_hops: Annotated[int, Meta(ge=1, le=255)] = 8
    allow_loops: bool = False

    def find_problems(self) -> Iterable[FieldProblem]:
        if not is_name(self.name):
            yield FieldProblem("name", describe_found(self.name), NAME_RULE)


class AdminSection(Section, kw_only=True, frozen=True):
    """``[admin]``: health, readiness, metrics and control over HTTP. Without this section there is none.

    :ivar listen: a Twisted server endpoint string.
    :ivar token: what a call that changes something has to bring; without it, none can. It also shows the contents of messages.
    :ivar hosts: names under which an endpoint on loopback may be asked for, besides addresses and ``localhost``: that of a proxy before
        it.
    """

    listen: str = "tcp:8223:interface=127.0.0.1"
    token: Secret | None = None
    hosts: list[str] = field(default_factory=list)


class NatsSection(Section, kw_only=True, frozen=True):
    """``[nats.NAME]``: one NATS connection, shared by the routes that name it.

    :ivar servers: server URLs: an array, or one text with commas.
    :ivar creds: a credentials file (or its content, from the environment).
    :ivar nkey: a file with an NKey seed (or the seed, from the environment).
    :ivar user: user name, with *password*.
    :ivar password: password, with *user*.
    :ivar token: authentication token.
    :ivar tls: require TLS (``true``), refuse it (``false``); not given: as the URLs and the server say.
    :ivar tls_first: start TLS before the server's INFO.
    :ivar tls_ca: file with the certificate authorities to trust, PEM.
    :ivar tls_cert: file with the client's certificate, PEM.
    :ivar tls_key: file with the key of *tls_cert*, PEM, if it is not in the same file.
    :ivar tls_server_name: the name to verify the server's certificate against, instead of the URL's host.
    :ivar inbox_prefix: the start of the subjects that replies come to.
    :ivar connect_timeout: seconds for one attempt at one server.
    :ivar ping_interval: seconds between PINGs.
    :ivar max_pings_out: unanswered PINGs after which a server is left.
    :ivar reconnect_buffer: bytes that publishes may take while disconnected.
    :ivar max_pending: bytes that may wait to be written.
    :ivar required: whether the bridge is unready while this connection is down; ``false``: only degraded.
    """

    servers: str | Annotated[list[str], Meta(min_length=1)] = field(default_factory=lambda: [DEFAULT_SERVER])
    creds: SecretFile | None = None
    nkey: SecretFile | None = None
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    tls: bool | None = None
    tls_first: bool = False
    tls_ca: FilePath | None = None
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    tls_server_name: str | None = None
    inbox_prefix: str = "_INBOX"
    connect_timeout: PositiveDuration = 5.0
    ping_interval: PositiveDuration = 120.0
    max_pings_out: Positive = 2
    reconnect_buffer: ByteSize = 8 * MIB
    max_pending: PositiveByteSize = 64 * MIB
    required: bool = True

    def client_options(self, name: str) -> dict[str, Any]:
        """The section as keywords of :class:`pynats_twisted.ClientOptions`.

        A bridge is a service that outlives its servers: it connects in the background and never gives up, not even when its
        credentials are refused, as they may be renewed. Secrets from files are read again at each connect.

        :param name: the connection's name, shown in the server's reports.
        :raises CredentialsError: credentials or a seed from the environment cannot be read.
        """
        options: dict[str, Any] = {option: getattr(self, key) for option, key in OPTION_KEYS.items()}
        options.update(
            name=name,
            retry_on_failed_connect=True,
            max_reconnect_attempts=-1,
            ignore_auth_error_abort=True,
            high_water_bytes=min(HIGH_WATER, self.max_pending),
            password=self.password.read if self.password is not None else None,
            token=self.token.read if self.token is not None else None,
        )
        for option, secret in (("creds", self.creds), ("nkey_seed", self.nkey)):
            if secret is not None:
                options.update({f"{option}_file": secret.file} if secret.file is not None else {option: secret.value})
        return options


OPTION_KEYS = {
    "servers": "servers",
    "user": "user",
    "tls": "tls",
    "tls_first": "tls_first",
    "tls_ca_file": "tls_ca",
    "tls_cert_file": "tls_cert",
    "tls_key_file": "tls_key",
    "tls_server_name": "tls_server_name",
    "inbox_prefix": "inbox_prefix",
    "connect_timeout": "connect_timeout",
    "ping_interval": "ping_interval",
    "max_pings_out": "max_pings_out",
    "reconnect_buffer_bytes": "reconnect_buffer",
    "max_pending_bytes": "max_pending",
}
"""The options of a client that ``[nats.NAME]`` sets, and the keys that they come from as they are."""

CREDENTIAL_KEYS = {
    "password": "password",
    "token": "token",
    "creds": "creds",
    "creds_file": "creds",
    "nkey_seed": "nkey",
    "nkey_seed_file": "nkey",
}
"""The same for those that are secrets."""


class LeafSection(Section, kw_only=True, frozen=True):
    """``[server.leaf]``: the NATS system that the bridge's own server joins as a leaf node.

    :ivar url: URLs of its leaf node port, such as ``tls://hub.example:7422``; several separated by commas.
    :ivar creds: a credentials file for it.
    """

    url: str
    creds: FilePath | None = None

    @property
    def urls(self) -> list[str]:
        """The URLs."""
        return [url.strip() for url in self.url.split(",")]

    def find_problems(self) -> Iterable[FieldProblem]:
        for url in self.urls:
            if _LEAF_URL.fullmatch(url) is None:
                yield FieldProblem("url", describe_found(url), 'URLs such as "tls://hub.example:7422" or "nats-leaf://hub.example"')


class ServerSection(Section, kw_only=True, frozen=True):
    """``[server]``: a nats-server of the bridge's own, on loopback, as a child process. It stores what cannot go further yet.

    :ivar embedded: whether there is one; ``false`` is as if the section were not there.
    :ivar port: its port on 127.0.0.1. A ``[nats.NAME]`` without ``servers`` is a connection to it.
    :ivar store_dir: the directory of its streams, its log of last and its configuration. They stay when the bridge ends.
    :ivar sync: how often what it stored is forced to the disk, or ``always``: before it is acknowledged.
    :ivar max_store: most bytes that streams may take on the disk; not given: three quarters of what is free.
    :ivar domain: the name of its JetStream, by which others reach its streams; with ``leaf`` it needs one.
    :ivar leaf: the NATS system that it joins.
    """

    store_dir: FilePath
    embedded: bool = True
    port: Annotated[int, Meta(ge=1, le=65535)] = 4222
    sync: str = "2m"
    max_store: PositiveByteSize | None = None
    domain: str | None = None
    leaf: LeafSection | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"nats://127.0.0.1:{self.port}"

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.sync != "always":
            try:
                seconds = parse_duration(self.sync)
            except ValueError:
                seconds = 0.0
            if seconds <= 0:
                yield FieldProblem("sync", describe_found(self.sync), f'"always", or {DURATION_RULE}')
        if self.domain is not None and not is_name(self.domain):
            yield FieldProblem("domain", describe_found(self.domain), NAME_RULE)
        if self.leaf is not None and self.domain is None:
            yield FieldProblem("domain", "nothing", "a name: without one, its streams and those of the system that it joins are mixed up")


class ListenSection(Section, kw_only=True, frozen=True):
    """``[listen.NAME]``: an HTTP listener that routes share by path.

    :ivar endpoint: a Twisted server endpoint string, for example ``tcp:8080`` or ``tls:/etc/bridge/certs:port=8443``.
    :ivar max_connections: connections at a time; more are closed at once.
    :ivar request_timeout: seconds in which the head and body of a request have to arrive.
    :ivar idle_timeout: seconds that a connection may stay open between requests.
    :ivar max_request_line: longest request line in bytes (414 beyond it).
    :ivar max_header_bytes: most bytes of all headers of a request (431 beyond it).
    """

    endpoint: str
    max_connections: Positive = 5000
    request_timeout: PositiveDuration = 30.0
    idle_timeout: PositiveDuration = 60.0
    max_request_line: PositiveByteSize = 8 * KIB
    max_header_bytes: PositiveByteSize = 16 * KIB


class BridgeConfig(Struct, kw_only=True, frozen=True):
    """A whole configuration.

    :ivar filename: where it was read from, for messages.
    :ivar bridge: ``[bridge]``.
    :ivar admin: ``[admin]`` or None.
    :ivar server: ``[server]`` or None.
    :ivar nats: ``[nats.NAME]`` by name. With none in the file there is ``default``, at ``nats://127.0.0.1:4222``.
    :ivar listen: ``[listen.NAME]`` by name.
    :ivar routes: ``[routes.NAME]`` by name, each of its route type's class.
    :ivar warnings: what works, but probably not as meant.
    """

    filename: str
    bridge: BridgeSection
    admin: AdminSection | None = None
    server: ServerSection | None = None
    nats: dict[str, NatsSection]
    listen: dict[str, ListenSection]
    routes: dict[str, RouteConfig]
    warnings: list[Problem] = field(default_factory=list)


def is_name(text: str) -> bool:
    """Whether *text* may name a bridge, a connection, a listener or a route."""
    return _NAME.fullmatch(text) is not None


def load_config(text: str, filename: str, factories: Iterable[IRouteFactory] | None = None) -> BridgeConfig:
    """The configuration that a TOML text describes.

    :param text: the text.
    :param filename: its name in messages; relative paths in the text start at its directory.
    :param factories: the route types to know; by default the built-in ones and those of plugins.
    :raises ConfigError: with everything that is wrong.
    :raises ConfigurationError: a route type that a plugin offers is unusable.
    """
    # Late, because the loader and the route types are built on the sections above.
    from pynats_twisted.bridge.config_loader import Loader
    from pynats_twisted.bridge.routes import all_factories, index_factories

    return Loader(text, filename, all_factories() if factories is None else index_factories(factories)).load()


def read_config(path: str, factories: Iterable[IRouteFactory] | None = None) -> BridgeConfig:
    """The configuration in the file *path*; see :func:`load_config`.

    :raises ConfigError: the file cannot be read, is longer than 4 MiB or not UTF-8, or something in it is wrong.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(path, 0, "", f"no readable file ({error.strerror})", "a TOML file")]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([Problem(path, 0, "", "a longer file", f"at most {MAX_FILE_BYTES} bytes")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(path, line, "", "bytes that are not UTF-8", "a TOML file in UTF-8")]) from None
    return load_config(text, path, factories)
