"""The bridge and its routes as plain values, for the admin pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from twisted.logger import Logger

from pynats_twisted.bridge.config_output import effective_config
from pynats_twisted.bridge.endpoints import listen_address
from pynats_twisted.bridge.interfaces import IDeadLetters, IDegradable, IDescribed, IPausable, RouteDescription

if TYPE_CHECKING:
    from pynats_twisted.bridge.activity import RouteError
    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.config import HTTPBinding, RouteConfig
    from pynats_twisted.bridge.http import HTTPListener

MAX_COMMANDS: Final = 8

_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_SAFE_WORD = re.compile(r"[A-Za-z0-9_./:=@%+,-]+", re.ASCII)

_log = Logger()


class Describer:
    """Tells of one bridge.

    :param bridge: the bridge.
    """

    def __init__(self, bridge: AdminBridge) -> None:
        self._bridge = bridge
        self._failed: set[str] = set()

    def route(self, name: str) -> dict[str, Any]:
        """A route, without its numbers."""
        bridge = self._bridge
        route = bridge.routes[name]
        description = self._description(name)
        state = bridge.switches.state(name)
        is_off = bridge.switches.is_off(name)
        problems = self._problems(name) if not is_off else []
        degradable = IDegradable(route, None) if not is_off else None
        return {
            "name": name,
            "type": route.type_name,
            "ready": not problems and state == "running",
            "problems": problems,
            "degraded": degradable.degraded() if degradable is not None else [],
            "guarantee": route.guarantee(),
            "state": state,
            "source": description.source,
            "target": description.target,
            "words": dict(description.state),
            "commands": [list(pair) for pair in description.commands[:MAX_COMMANDS]],
            "can": {"pause_itself": IPausable(route, None) is not None, "dead_letters": IDeadLetters(route, None) is not None},
        }

    def _problems(self, name: str) -> list[str]:
        """What keeps a route from working: what it says itself, and its NATS connections, which some leave to the bridge."""
        problems = list(self._bridge.routes[name].problems())
        for _, nats in self._bridge.config.routes[name].nats_names():
            problems += [problem for problem in self._bridge.connections[nats].problems() if problem not in problems]
        return problems

    def routes(self) -> list[dict[str, Any]]:
        """All routes."""
        return [self.route(name) for name in self._bridge.routes]

    def errors(self, name: str) -> list[dict[str, Any]]:
        """The last errors of a route, the newest first."""
        return [_error(error) for error in self._bridge.context.activity(name).errors]

    def config(self, name: str) -> dict[str, Any]:
        """The effective configuration of a route."""
        config: dict[str, Any] = effective_config(self._bridge.config)["routes"].get(name, {})
        return config

    def connections(self) -> list[dict[str, Any]]:
        """The NATS connections."""
        found: list[dict[str, Any]] = []
        for name, connection in self._bridge.connections.items():
            client = connection.client
            info = client.server_info
            found.append(
                {
                    "name": name,
                    "status": client.status.value,
                    "connected": connection.is_connected,
                    "required": connection.section.required,
                    "url": str(client.connected_url) if client.connected_url is not None else "",
                    "server": info.server_name if info is not None else "",
                    "version": info.version if info is not None else "",
                }
            )
        return found

    def listeners(self) -> list[dict[str, Any]]:
        """The HTTP listeners."""
        return [
            {"name": name, "endpoint": listener.endpoint, "address": address_of(listener), "problems": listener.problems()}
            for name, listener in self._bridge.listeners.items()
        ]

    def _description(self, name: str) -> RouteDescription:
        described = IDescribed(self._bridge.routes[name], None)
        if described is not None:
            try:
                return described.describe()
            except Exception:  # noqa: BLE001 - a route of anybody must not take the page of all routes with it
                if name not in self._failed:
                    self._failed.add(name)
                    _log.failure("route {route} cannot describe itself", route=name)
        return described_by_config(self._bridge.config.routes[name], self._bridge.listeners)


def described_by_config(config: RouteConfig, listeners: Mapping[str, HTTPListener]) -> RouteDescription:
    """What the configuration of a route says of it, for routes that say nothing themselves."""
    bindings = list(config.http_bindings())
    endpoints = [endpoint for _, endpoint in config.server_endpoints()]
    flows = list(config.flows())
    reads = [subject for flow in flows for subject in flow.reads]
    writes = [subject for flow in flows for subject in flow.writes]
    here = [f"{'/'.join(binding.methods)} {binding.path}" for binding in bindings] or endpoints
    if reads and not writes:
        source, target = reads, here
    else:
        source, target = here or reads, writes
    subject = getattr(config, "subject", None)
    if not target and isinstance(subject, str):
        target = [subject]
    commands = [("send a request", http_command(binding, listeners, _needs_token(config))) for binding in bindings]
    commands += [("send a line", command) for command in map(line_command, endpoints) if command]
    commands += [("see what arrives", f"nats sub {quote(subject)}") for subject in _subjects(writes or target)]
    commands += [("publish a message", f"nats pub {quote(example(subject))} hello") for subject in reads]
    return RouteDescription(", ".join(source), ", ".join(target), {}, commands)


def http_command(binding: HTTPBinding, listeners: Mapping[str, HTTPListener], needs_token: bool) -> str:
    """``curl`` for a path of a listener."""
    listener = listeners.get(binding.listen)
    base = address_of(listener) if listener is not None else ""
    words = ["curl", "-i"]
    if "GET" not in binding.methods:
        if binding.methods[:1] != ("POST",):
            words += ["-X", *binding.methods[:1]]
        words += ["-d", "hello"]
    if needs_token:
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    return " ".join([*words, quote((base or "http://127.0.0.1") + _PLACEHOLDER.sub("x", binding.path))])


def line_command(endpoint: str) -> str:
    """``nc`` for an endpoint that lines are sent to; empty where there is no such command."""
    kind = endpoint.partition(":")[0].lower()
    if kind not in ("tcp", "tcp6", "udp"):
        return ""
    address = listen_address(endpoint)
    if address is None or not address.port:
        return ""
    udp = "-u " if kind == "udp" else ""
    return f"echo hello | nc {udp}-w 1 {address.host or '127.0.0.1'} {address.port}"


def address_of(listener: HTTPListener) -> str:
    """Where an HTTP listener is, as the beginning of a URL; empty where only its endpoint knows."""
    try:
        address = listen_address(listener.endpoint)
    except ValueError:
        return ""
    if address is None or address.family != "tcp":
        return ""
    host: Any = listener.port.getHost() if listener.port is not None else None
    port = getattr(host, "port", None) or address.port
    scheme = "https" if listener.endpoint.partition(":")[0].lower() in ("ssl", "tls") else "http"
    shown = address.host or "127.0.0.1"
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"


def example(subject: str) -> str:
    """A subject that matches a pattern."""
    return subject.replace("*", "x").replace(">", "x")


def quote(word: str) -> str:
    """A word for a shell."""
    return word if _SAFE_WORD.fullmatch(word) else "'" + word.replace("'", "'\\''") + "'"


def _subjects(targets: Sequence[str]) -> list[str]:
    return [_PLACEHOLDER.sub("*", subject) for subject in targets]


def _needs_token(config: RouteConfig) -> bool:
    return getattr(config, "auth", None) is not None


def _error(error: RouteError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "cause": error.cause,
        "hint": error.hint,
        "time": error.time,
        "first_time": error.first_time,
        "count": error.count,
    }


def encode(content: Any) -> bytes:
    """JSON without spaces, for events."""
    return msgspec.json.encode(content)
