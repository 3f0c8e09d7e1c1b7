"""The rules between the sections of a configuration: names that must exist, listeners and paths that must not collide, secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from pynats_twisted.bridge.config import (
    CREDENTIAL_KEYS,
    OPTION_KEYS,
    AdminSection,
    BridgeSection,
    HTTPBinding,
    ListenSection,
    NatsSection,
    RouteConfig,
    ServerSection,
)
from pynats_twisted.bridge.config_convert import RawProblem, key_path
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, near_miss
from pynats_twisted.bridge.config_lines import Path
from pynats_twisted.bridge.config_types import Secret
from pynats_twisted.bridge.embedded import find_nats_server
from pynats_twisted.bridge.endpoints import ENDPOINT_RULE, ListenAddress, endpoint_problem, listen_address
from pynats_twisted.bridge.flow_graph import FlowGraph
from pynats_twisted.bridge.paths import PATH_RULE, PathTemplate, conflict
from pynats_twisted.errors import ConfigurationError, InvalidURLError, MissingDependencyError, MixedSchemesError, NatsError
from pynats_twisted.protocol.credentials import make_authenticator
from pynats_twisted.protocol.options import ClientOptions


class Rules:
    """Checks sections that are right by themselves against each other.

    :param nats_names: the connections that the configuration names, also those whose own section is wrong.
    :param listen_names: the same for listeners.
    """

    def __init__(
        self,
        *,
        bridge: BridgeSection | None,
        admin: AdminSection | None,
        server: ServerSection | None,
        nats: Mapping[str, NatsSection],
        listen: Mapping[str, ListenSection],
        routes: Mapping[str, RouteConfig],
        nats_names: Collection[str],
        listen_names: Collection[str],
    ) -> None:
        self._bridge = bridge
        self._admin = admin
        self._server = server
        self._nats = nats
        self._listen = listen
        self._routes = routes
        self._nats_names = nats_names
        self._listen_names = listen_names

    def problems(self) -> Iterator[RawProblem]:
        """Everything that is wrong."""
        yield from self._missing_server()
        yield from self._missing_secrets()
        yield from self._unusable_connections()
        yield from self._unknown_names()
        yield from self._listeners()
        yield from self._paths()
        yield from self._circles()

    def warnings(self) -> Iterator[RawProblem]:
        """What works, but probably not as meant."""
        if not self._routes:
            yield RawProblem(("routes",), "no routes", "at least one [routes.NAME]")
        used_nats = {name for route in self._routes.values() for _, name in route.nats_names()}
        used_listeners = {binding.listen for route in self._routes.values() for binding in route.http_bindings()}
        for kind, names, used in (("nats", self._nats, used_nats), ("listen", self._listen, used_listeners)):
            for name in names:
                if name not in used and self._routes:
                    yield RawProblem((kind, name), "a section that no route uses", "")
        for route_name, route in self._routes.items():
            yield from _at(("routes", route_name), route.find_warnings())
            yield from self._open_to_everybody(route_name, route)

    def _open_to_everybody(self, route_name: str, route: RouteConfig) -> Iterator[RawProblem]:
        if getattr(route, "auth", None) is not None or getattr(route, "verify", None) is not None:
            return
        for name in sorted({binding.listen for binding in route.http_bindings()} & self._listen.keys()):
            address = listen_address(self._listen[name].endpoint)
            if address is not None and address.family == "tcp" and not address.host:
                found = f"nothing, while listen.{name} is open to every network"
                yield RawProblem(("routes", route_name, "auth"), found, "auth, verify, or interface=127.0.0.1 in the listener's endpoint")

    def _sections(self) -> Iterator[tuple[Path, Any]]:
        yield from ((("bridge",), self._bridge), (("admin",), self._admin))
        tables: tuple[tuple[str, Mapping[str, Any]], ...] = (("nats", self._nats), ("listen", self._listen), ("routes", self._routes))
        for kind, sections in tables:
            yield from (((kind, name), section) for name, section in sections.items())

    def _missing_server(self) -> Iterator[RawProblem]:
        if self._server is not None:
            try:
                find_nats_server()
            except MissingDependencyError as error:
                yield RawProblem(("server",), f"a server to run, but {error}", "the section only where the program is installed")

    def _missing_secrets(self) -> Iterator[RawProblem]:
        for path, secret in chain.from_iterable(find_secrets(section, path) for path, section in self._sections()):
            problem = secret.problem()
            if problem is not None:
                yield RawProblem(path, problem, secret.rule())

    def _unusable_connections(self) -> Iterator[RawProblem]:
        for name, section in self._nats.items():
            if not any(secret.problem() for _, secret in find_secrets(section, ())):
                error = _connection_error(section)
                if error is not None:
                    yield RawProblem(("nats", name, *_section_key(error)), "what cannot be used", str(error))

    def _unknown_names(self) -> Iterator[RawProblem]:
        for route_name, route in self._routes.items():
            for key, name in route.nats_names():
                if name not in self._nats_names:
                    yield _unknown(("routes", route_name, *key_path(key)), name, "nats", self._nats_names)
            for listen in {binding.listen for binding in route.http_bindings()}:
                if listen not in self._listen_names:
                    yield _unknown(("routes", route_name, "listen"), listen, "listen", self._listen_names)

    def _endpoints(self) -> Iterator[tuple[Path, str, bool]]:
        """Every endpoint, with whether it is one of Twisted's own syntax (a route's own syntax is the route's to check)."""
        if self._admin is not None:
            yield ("admin", "listen"), self._admin.listen, True
        if self._server is not None:
            yield ("server", "port"), f"tcp:{self._server.port}:interface=127.0.0.1", True
        for name, listener in self._listen.items():
            yield ("listen", name, "endpoint"), listener.endpoint, True
        for route_name, route in self._routes.items():
            for key, description in route.server_endpoints():
                yield ("routes", route_name, *key_path(key)), description, False

    def _listeners(self) -> Iterator[RawProblem]:
        taken: list[tuple[ListenAddress, Path]] = []
        for path, description, is_plain in self._endpoints():
            if is_plain:
                problem = endpoint_problem(description)
                if problem is not None:
                    yield RawProblem(path, f"{describe_found(description)} ({problem})", ENDPOINT_RULE)
                    continue
            try:
                address = listen_address(description)
            except ValueError as error:
                yield RawProblem(path, f"{describe_found(description)} ({error})", ENDPOINT_RULE)
                continue
            if address is None:
                continue
            other = next((known_path for known, known_path in taken if known.overlaps(address)), None)
            if other is not None:
                what = f"{describe_found(description)}, which {'.'.join(map(str, other))} listens on already"
                yield RawProblem(path, what, "an address of its own for each listener")
            taken.append((address, path))

    def _paths(self) -> Iterator[RawProblem]:
        taken: dict[str, list[tuple[str, PathTemplate, HTTPBinding]]] = {}
        for route_name, route in self._routes.items():
            path = ("routes", route_name, "path")
            for binding in route.http_bindings():
                try:
                    template = PathTemplate(binding.path)
                except ConfigurationError as error:
                    yield RawProblem(path, f"an unusable path: {error}", PATH_RULE)
                    continue
                for other_name, other_template, other in taken.setdefault(binding.listen, []):
                    if conflict(template, binding.methods, other_template, other.methods):
                        what = f"{describe_found(binding.path)}, which overlaps with {describe_found(other.path)} of routes.{other_name}"
                        yield RawProblem(path, what, "paths of which only one fits a request")
                        break
                taken[binding.listen].append((route_name, template, binding))

    def _circles(self) -> Iterator[RawProblem]:
        if self._bridge is not None and self._bridge.allow_loops:
            return
        for circle in FlowGraph(self._routes, self._nats).circles():
            what = "; ".join(map(str, circle))
            yield RawProblem(
                ("routes", circle[0].writer), f"a circle: {what}", "routes that do not feed themselves, or allow_loops = true in [bridge]"
            )


def find_secrets(value: Any, path: Path) -> Iterator[tuple[Path, Secret]]:
    """Every secret in a section, with its path."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            yield from find_secrets(getattr(value, field.name), (*path, field.encode_name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_secrets(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from find_secrets(item, (*path, index))


def _connection_error(section: NatsSection) -> NatsError | None:
    """Why a client would refuse the section, or None. Keys and credentials are read, so that malformed ones are found."""
    options = section.client_options("nats-bridge")
    for option, secret in (("creds", section.creds), ("nkey_seed", section.nkey)):
        if options.pop(f"{option}_file", None) is not None and secret is not None:
            options[option] = secret.value
    try:
        make_authenticator(ClientOptions(**options))
    except (ConfigurationError, MissingDependencyError) as error:
        return error
    return None


def _section_key(error: NatsError) -> Path:
    """The key of ``[nats.NAME]`` that an error of the client's options is about."""
    if isinstance(error, (InvalidURLError, MixedSchemesError)):
        return ("servers",)
    option = str(error).partition(":")[0]
    key = OPTION_KEYS.get(option) or CREDENTIAL_KEYS.get(option)
    return (key,) if key is not None else ()


def _at(path: Path, found: Iterable[FieldProblem]) -> Iterator[RawProblem]:
    for problem in found:
        yield RawProblem(path + key_path(problem.key), problem.found, problem.allowed, problem.suggestion)


def _unknown(path: Path, name: str, kind: str, known: Collection[str]) -> RawProblem:
    allowed = ", ".join(f'"{other}"' for other in sorted(known)) or f"a [{kind}.NAME] section, of which there is none"
    close = near_miss(name, known)
    return RawProblem(path, f"{describe_found(name)}, but there is no [{kind}.{name}]", allowed, f'"{close}"' if close else "")
