"""What a client is told: :class:`ClientOptions`, and the rule for the value of each option."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from pynats_twisted.errors import ConfigurationError, InvalidSubjectError
from pynats_twisted.protocol.subjects import check_inbox_prefix
from pynats_twisted.protocol.urls import TLS_SCHEMES, ServerURL, parse_servers

if TYPE_CHECKING:
    from pynats_twisted.protocol.credentials import Authenticator
    from pynats_twisted.protocol.servers import Server

FilePath = str | os.PathLike[str]
SecretText = str | Callable[[], str]

_MIB = 1024 * 1024
_LARGEST = 1e12

# The text of a seed or of a creds file, where the name of a file is asked for.
_SECRET_IN_PATH = re.compile(r"\s*S[A-Z2-7]{57}\s*|.*-----BEGIN.*", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ClientOptions:
    """All options of a client. Times are in seconds, sizes in bytes. The repr shows no secret.

    What may be combined to authenticate is said at :func:`pynats_twisted.protocol.credentials.make_authenticator`, which checks it as
    soon as a client is made.

    **Servers**

    :param servers: one URL, several with commas in between, or a sequence of URLs: ``nats://host:4222``, ``tls://``, ``ws://``,
        ``wss://``, ``unix:///path``, or only ``host`` or ``host:port``. ``user:password@`` or ``token@`` in a URL wins over the
        options. WebSocket servers cannot be mixed with others.
    :param shuffle_servers: try the servers in random order (and put discovered ones into random places).
    :param ignore_discovered: do not learn other servers of the cluster from INFO.
    :param max_discovered: how many learned servers the pool holds at most; 0 is as ``ignore_discovered``.
    :param leave_on_lame_duck: when a server says that it will shut down, connect to another one without waiting for the end.
    :param endpoint_factory: called with the reactor and a :class:`~pynats_twisted.protocol.servers.Server`; gives the endpoint to it.

    **What the server is told**

    :param name: the client's name, for the server's monitoring.
    :param verbose: let the server acknowledge each line (``+OK``); of no use but for tests.
    :param pedantic: let the server check subjects more strictly.
    :param echo: get one's own publishes, where one is subscribed to their subject.
    :param no_responders: get an error at once for a request that nobody listens to.
    :param inbox_prefix: the first tokens of every reply subject; a subject without wildcards.

    **Credentials**

    :param user: the user's name, or a callable that gives it at each connect.
    :param password: the password, or a callable that gives it at each connect; with ``user``.
    :param token: a token, or a callable that gives it at each connect; not together with ``user``.
    :param nkey_seed: the text of an NKey seed (``SU...``).
    :param nkey_seed_file: a file with the text of an NKey seed, read at each connect.
    :param creds: the text of a creds file.
    :param creds_file: a creds file, read at each connect.
    :param user_jwt: a user's JWT, or a callable that gives it at each connect.
    :param sign_nonce: gets the server's nonce and gives its raw signature; goes with ``user_jwt`` or ``nkey_public``.
    :param nkey_public: the public key that belongs to ``sign_nonce``.
    :param authenticator: an object of one's own with ``authenticate(nonce, server)``, in the place of the other credentials.

    **TLS**

    :param tls: True: never speak in the clear. None: as the URL and the server say. False: never speak TLS.
        Any other TLS option implies True.
    :param tls_first: begin with the TLS handshake, before the server's INFO.
    :param tls_ca_file: a PEM file of the authorities to trust, in the place of the system's.
    :param tls_cert_file: a PEM file with the client's certificate.
    :param tls_key_file: a PEM file with the key of ``tls_cert_file``, if it is not in the same file.
    :param tls_server_name: the name that the servers' certificates must have, in the place of the host in the URL.
    :param tls_options: an ``IOpenSSLClientConnectionCreator``, or a callable that makes one for a host name; not together with files.

    **Connecting**

    :param connect_timeout: for each server, from dialling to the end of the handshake.
    :param ping_interval: the time between two PINGs.
    :param max_pings_out: with more PINGs unanswered than this, the connection is given up.
    :param allow_reconnect: connect again when the connection is lost.
    :param retry_on_failed_connect: go on trying in the background when at first no server can be connected to.
    :param max_reconnect_attempts: attempts at one server before it leaves the pool; -1: endless.
    :param reconnect_wait: the wait after every server has failed once.
    :param reconnect_wait_factor: by what the wait is multiplied after each further round of failures.
    :param reconnect_wait_max: the longest wait, jitter aside.
    :param reconnect_jitter: the largest random part to add, as a fraction of the wait.
    :param reconnect_jitter_tls: as ``reconnect_jitter``, where TLS is used.
    :param reconnect_delay: called with the number of the round that failed (1, 2, ...); gives the wait in the place of the options above.
    :param reconnect_stable_after: how long a connection has to stay up before waits and attempts start anew.
    :param ignore_auth_error_abort: go on trying a server that gave the same authentication error twice.

    **Waiting**

    :param request_timeout: for a request to be answered.
    :param flush_timeout: for a flush to be confirmed by the server.
    :param drain_timeout: for a drain to end.
    :param fail_requests_on_disconnect: fail requests when the connection is lost, instead of waiting on for their timeouts.

    **Bounds**

    :param reconnect_buffer_bytes: what may be published while disconnected; 0: publishing fails then.
    :param high_water_bytes: with more than this waiting to be sent, ``await publish()`` waits.
    :param max_pending_bytes: with more than this waiting to be sent, ``publish()`` fails.
    :param pending_msgs: how many messages may wait in a subscription; 0: no bound.
    :param pending_bytes: how many bytes may wait in a subscription; 0: no bound.
    :param max_requests_in_flight: requests that wait for replies at one time.
    :param max_info_line: the longest INFO line that is accepted from the server.
    :param max_line: the longest other line that is accepted from the server.
    :param max_message: the largest message that is accepted from the server, headers included.

    :raises ConfigurationError: a value breaks the rule of its option; the text names option, value (but no secret) and rule.
    :raises InvalidURLError: a server's URL is not valid.
    :raises MixedSchemesError: WebSocket and other servers are mixed.
    """

    servers: str | Sequence[str] = "nats://127.0.0.1:4222"
    shuffle_servers: bool = True
    ignore_discovered: bool = False
    max_discovered: int = 1024
    leave_on_lame_duck: bool = True
    endpoint_factory: Callable[[Any, Server], Any] | None = None

    name: str | None = None
    verbose: bool = False
    pedantic: bool = False
    echo: bool = True
    no_responders: bool = True
    inbox_prefix: str = "_INBOX"

    user: SecretText | None = None
    password: SecretText | None = None
    token: SecretText | None = None
    nkey_seed: str | bytes | None = None
    nkey_seed_file: FilePath | None = None
    creds: str | bytes | None = None
    creds_file: FilePath | None = None
    user_jwt: SecretText | None = None
    sign_nonce: Callable[[bytes], bytes] | None = None
    nkey_public: str | None = None
    authenticator: Authenticator | None = None

    tls: bool | None = None
    tls_first: bool = False
    tls_ca_file: FilePath | None = None
    tls_cert_file: FilePath | None = None
    tls_key_file: FilePath | None = None
    tls_server_name: str | None = None
    tls_options: object | None = None

    connect_timeout: float = 5.0
    ping_interval: float = 120.0
    max_pings_out: int = 2
    allow_reconnect: bool = True
    retry_on_failed_connect: bool = False
    max_reconnect_attempts: int = 60
    reconnect_wait: float = 0.1
    reconnect_wait_max: float = 4.0
    reconnect_wait_factor: float = 2.0
    reconnect_jitter: float = 0.1
    reconnect_jitter_tls: float = 0.25
    reconnect_delay: Callable[[int], float] | None = None
    reconnect_stable_after: float = 0.25
    ignore_auth_error_abort: bool = False

    request_timeout: float = 5.0
    flush_timeout: float = 10.0
    drain_timeout: float = 30.0
    fail_requests_on_disconnect: bool = False

    reconnect_buffer_bytes: int = 8 * _MIB
    high_water_bytes: int = 2 * _MIB
    max_pending_bytes: int = 64 * _MIB
    pending_msgs: int = 65_536
    pending_bytes: int = 64 * _MIB
    max_requests_in_flight: int = 131_072
    max_info_line: int = _MIB
    max_line: int = 64 * 1024
    max_message: int = 64 * _MIB

    server_urls: tuple[ServerURL, ...] = field(init=False)
    """The option ``servers``, read."""

    def __post_init__(self) -> None:
        for name, (holds, rule) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise ConfigurationError(f"{name}: {_value_of(name, value)} was given; it must be {rule}")
        try:
            check_inbox_prefix(self.inbox_prefix)
        except InvalidSubjectError as error:
            raise ConfigurationError(f"inbox_prefix: {error}") from None
        # A list that the caller changes later must not change the options.
        if isinstance(self.servers, Iterable) and not isinstance(self.servers, (str, bytes)):
            object.__setattr__(self, "servers", tuple(self.servers))
        object.__setattr__(self, "server_urls", parse_servers(self.servers))
        self._check_order("reconnect_wait", "reconnect_wait_max")
        self._check_order("high_water_bytes", "max_pending_bytes")
        self._check_order("reconnect_buffer_bytes", "max_pending_bytes")
        self._check_tls()

    @classmethod
    def from_keywords(cls, servers: str | Sequence[str], **options: Any) -> ClientOptions:
        """Options from the keywords of a call such as ``connect(reactor, servers, **options)``.

        :raises ConfigurationError: an option is unknown (the text names similar ones), or a value breaks its rule.
        """
        for name in options:
            if name not in _NAMES:
                similar = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, _NAMES, n=2)
                hint = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""
                raise ConfigurationError(f"unknown option {name!r}{hint}")
        return cls(servers=servers, **options)

    @property
    def tls_wanted(self) -> bool:
        """Whether the options demand TLS for every server, whatever its URL and its INFO say."""
        return self.tls is True or bool(self._given_tls_options())

    def _given_tls_options(self) -> list[str]:
        return [name for name in _TLS_OPTIONS if getattr(self, name)]

    def _check_order(self, smaller: str, larger: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if low > high:
            raise ConfigurationError(f"{smaller}: {low} was given; it must not be more than {larger}, which is {high}")

    def _check_tls(self) -> None:
        given = self._given_tls_options()
        schemes = {url.scheme for url in self.server_urls}
        if self.tls is False:
            contrary = [f"{scheme}://" for scheme in sorted(schemes & TLS_SCHEMES)] + given
            if contrary:
                raise ConfigurationError(f"tls: False was given; it must not be together with {', '.join(contrary)}")
        if self.tls_wanted and "ws" in schemes:
            raise ConfigurationError(f"{given[0] if given else 'tls'}: TLS is demanded, but a server has ws://; its URL must be wss://")
        if self.tls_key_file and not self.tls_cert_file:
            raise ConfigurationError("tls_key_file: it was given alone; it must be together with tls_cert_file")
        files = [name for name in ("tls_ca_file", "tls_cert_file", "tls_key_file") if name in given]
        if self.tls_options is not None and files:
            raise ConfigurationError(f"tls_options: it must not be together with {', '.join(files)}, which it would ignore")

    def __repr__(self) -> str:
        """The servers without credentials, and each option that differs from its default; secrets as ``***``."""
        shown = [f"servers={[url.url for url in self.server_urls]}"]
        shown += [
            f"{item.name}={_value_of(item.name, getattr(self, item.name))}"
            for item in fields(self)
            if item.init and item.name != "servers" and getattr(self, item.name) != item.default
        ]
        return f"ClientOptions({', '.join(shown)})"


def _value_of(name: str, value: object) -> str:
    """How a value may be shown. What is no plain value may have a repr that tells secrets."""
    if name in _SECRETS or _is_secret(value):
        return "***" if isinstance(value, (str, bytes, bytearray)) else _kind_of(value)
    if value is None or isinstance(value, (str, bool, int, float, os.PathLike)):
        text = repr(value)
        return text if len(text) <= 200 else text[:200] + "…"
    return _kind_of(value)


def _kind_of(value: object) -> str:
    return "<callable>" if callable(value) else f"<{type(value).__name__}>"


# --- the rules -----------------------------------------------------------------------------------------------

_Rule = tuple[Callable[[Any], bool], str]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    # Neither NaN nor infinity, nor an integer that no float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_secret(value: object) -> bool:
    return isinstance(value, str) and _SECRET_IN_PATH.fullmatch(value) is not None


def _path(value: object) -> bool:
    return value is None or isinstance(value, os.PathLike) or (_text(value) and not _is_secret(value))


_FLAG: _Rule = (lambda value: isinstance(value, bool), "True or False")
_SECONDS: _Rule = (lambda value: _number(value) and value > 0, "a number of seconds, more than 0")
_WAIT: _Rule = (lambda value: _number(value) and value >= 0, "a number of seconds, 0 or more")
_FRACTION: _Rule = (lambda value: _number(value) and 0 <= value <= 1, "a fraction from 0 to 1")
_COUNT: _Rule = (lambda value: _whole(value) and value >= 1, "a whole number, 1 or more")
_COUNT_OR_ZERO: _Rule = (lambda value: _whole(value) and value >= 0, "a whole number, 0 or more")
_TEXT: _Rule = (lambda value: value is None or _text(value), "a str that is not empty, or None")
_SECRET: _Rule = (lambda value: value is None or callable(value) or _text(value), "a str (not empty), a callable that gives one, or None")
_PASSWORD: _Rule = (lambda value: value is None or callable(value) or isinstance(value, str), "a str, a callable that gives one, or None")
_SECRET_TEXT: _Rule = (lambda value: value is None or (isinstance(value, (str, bytes)) and bool(value)), "str or bytes, not empty, or None")
_PATH: _Rule = (_path, "the path of a file (str or os.PathLike, not its content), or None")
_CALLABLE: _Rule = (lambda value: value is None or callable(value), "a callable, or None")

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("shuffle_servers", "ignore_discovered", "leave_on_lame_duck", "verbose", "pedantic", "echo", "no_responders"), _FLAG),
    **dict.fromkeys(("allow_reconnect", "retry_on_failed_connect", "ignore_auth_error_abort", "fail_requests_on_disconnect"), _FLAG),
    "tls_first": _FLAG,
    "tls": (lambda value: value is None or isinstance(value, bool), "True, False or None"),
    **dict.fromkeys(("connect_timeout", "ping_interval", "request_timeout", "flush_timeout", "drain_timeout"), _SECONDS),
    **dict.fromkeys(("reconnect_wait", "reconnect_wait_max", "reconnect_stable_after"), _WAIT),
    **dict.fromkeys(("reconnect_jitter", "reconnect_jitter_tls"), _FRACTION),
    "reconnect_wait_factor": (lambda value: _number(value) and value >= 1, "a number, 1 or more"),
    "max_reconnect_attempts": (lambda value: _whole(value) and value >= -1, "a whole number, 0 or more, or -1 for endless"),
    **dict.fromkeys(("max_pings_out", "high_water_bytes", "max_pending_bytes", "max_requests_in_flight"), _COUNT),
    **dict.fromkeys(("max_info_line", "max_line", "max_message"), _COUNT),
    **dict.fromkeys(("max_discovered", "reconnect_buffer_bytes", "pending_msgs", "pending_bytes"), _COUNT_OR_ZERO),
    **dict.fromkeys(("name", "nkey_public", "tls_server_name"), _TEXT),
    **dict.fromkeys(("user", "token", "user_jwt"), _SECRET),
    "password": _PASSWORD,
    **dict.fromkeys(("nkey_seed", "creds"), _SECRET_TEXT),
    **dict.fromkeys(("nkey_seed_file", "creds_file", "tls_ca_file", "tls_cert_file", "tls_key_file"), _PATH),
    **dict.fromkeys(("endpoint_factory", "sign_nonce", "reconnect_delay"), _CALLABLE),
    "authenticator": (
        lambda value: value is None or (not isinstance(value, type) and callable(getattr(value, "authenticate", None))),
        "an object with a method authenticate(nonce, server), or None",
    ),
}

# The public key is among them because a seed may be given in its place by mistake.
_SECRETS = frozenset({"authenticator", "sign_nonce", "password", "token", "nkey_seed", "creds", "user_jwt", "nkey_public"})
_TLS_OPTIONS = ("tls_first", "tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name", "tls_options")
_NAMES = [item.name for item in fields(ClientOptions) if item.init and item.name != "servers"]

# What other NATS clients call the same thing.
_ELSEWHERE = {
    "dont_randomize": "shuffle_servers",
    "drain_on_close_timeout": "drain_timeout",
    "max_outstanding_pings": "max_pings_out",
    "max_reconnects": "max_reconnect_attempts",
    "nkeys_seed": "nkey_seed_file",
    "nkeys_seed_str": "nkey_seed",
    "no_echo": "echo",
    "no_randomize": "shuffle_servers",
    "pending_size": "reconnect_buffer_bytes",
    "reconnect_buf_size": "reconnect_buffer_bytes",
    "reconnect_time_wait": "reconnect_wait",
    "signature_cb": "sign_nonce",
    "tls_handshake_first": "tls_first",
    "tls_hostname": "tls_server_name",
    "user_credentials": "creds_file",
    "user_jwt_cb": "user_jwt",
}
